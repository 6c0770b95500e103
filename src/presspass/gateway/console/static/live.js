// Keeps the state on the page true: asks every two seconds, changes words and marks, never what is to be signed.
const POLL_MS = 2000;
const element = (id) => document.getElementById(id);
const page = element("main").dataset;
const buttons = ["approve", "veto"].map(element).filter(Boolean);

function say(id, text) {
  const place = element(id);
  if (place && place.textContent !== text) place.textContent = text;
}

function stale(text) {
  say("fresh-words", text);
  element("fresh").hidden = false;
}

function move(state, message) {
  const steps = [...document.querySelectorAll("#steps li")];
  const at = steps.findIndex((one) => one.dataset.step === state);
  if (at < 0 || state === page.state) return;
  page.state = state;
  const ended = steps[at].classList.contains("bad");
  steps.forEach((one, place) => {
    if (one.classList.contains("bad")) return void (one.hidden = place !== at);
    if (ended) one.hidden = one.className === "later";
    one.className = place < at && !one.hidden ? "done" : place === at ? "now" : "later";
  });
  document.querySelector("#steps [aria-current]")?.removeAttribute("aria-current");
  steps[at].setAttribute("aria-current", "step");
  say("words", [steps[at].dataset.words, message].filter(Boolean).join(" "));
  if (ended || "end" in steps[at].dataset) {
    page.settled = "yes";
    stale("It is settled.");
  }
  if (!["awaiting", "asked", "seen"].includes(state)) for (const one of buttons) one.disabled = one.id !== "veto" || state !== "approved";
}

function signatures(approvals) {
  const list = element("signatures");
  for (const { key, statement } of list ? approvals : []) {
    const intent = statement === page.request ? "approved" : "vetoed";
    if (list.querySelector(`[data-key="${key}"].${intent}`)) continue;
    const row = document.querySelector(`#keys [data-key="${key}"]`);
    const item = document.createElement("li");
    item.dataset.key = key;
    item.className = intent;
    item.textContent = `${row?.dataset.person ?? "A key that is not in the roster"} ${intent} just now`;
    list.querySelector(".none")?.remove();
    list.append(item);
  }
}

function update(answer) {
  const request = answer.request ?? answer.digest ?? "";
  if (request && request !== page.request) {
    stale(page.request ? "The request was written anew: what this page shows is no longer asked." : "There is something to sign now.");
    for (const one of buttons) one.disabled = true;
  }
  if (answer.tally?.counted) {
    say("counted", String(answer.tally.counted.length));
    say("missing", String(Math.max(0, answer.tally.needed - answer.tally.counted.length)));
  }
  if (request === page.request) signatures(answer.approvals ?? []);
  const told = answer.reason ?? answer.message;
  move(answer.state || "asked", told);
  if (page.settled === "no" && told && answer.code && answer.code !== "quorum.missing") say("words", told);
  if (answer.press?.message) say("press", answer.press.message);
}

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch(page.api, { headers: { accept: "application/json" }, cache: "no-store" });
      if (answer.ok) update(await answer.json());
      say("link-words", answer.ok ? "" : `The gate answered ${answer.status}; the state shown may be old.`);
    } catch {
      say("link-words", "The gate does not answer; trying again. The state shown may be old.");
    }
  }
  if (page.settled === "no") setTimeout(poll, POLL_MS);
}

if (page.settled === "no") setTimeout(poll, POLL_MS);

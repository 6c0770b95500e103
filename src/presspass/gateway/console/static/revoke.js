// Revoking and freezing with a passkey. The statement is written here, from what stands on this page, and shown.
const element = (id) => document.getElementById(id);
const page = element("main").dataset;
const buttons = [...document.querySelectorAll("button.stop")];
const keys = signing.keys.filter((one) => one.credential);
// The gate's time when the page was made, and what has passed since: this computer's clock may be wrong.
const now = () => Number(page.now) + Math.floor(performance.now() / 1000);

function show(text, good = false) {
  const place = element("outcome");
  place.textContent = text;
  place.hidden = !text;
  place.classList.toggle("good", good);
  if (text) place.scrollIntoView({ block: "nearest" });
}

// Members in the order of RFC 8785, whole numbers and strings only: JSON.stringify gives the canonical form.
function statement(kind, body) {
  const issued = now();
  return JSON.stringify({
    body,
    expires_at: issued + Number(page.life),
    format: "presspass/statement/v1",
    genesis: page.genesis,
    heads: { policy: page.policy, revocation: page.revocation, roster: page.roster },
    intent: "approve",
    issued_at: issued,
    kind,
    nonce: signing.random(),
    previous: null,
    space: page.space,
  });
}

function add(title, state, reason, person) {
  const item = document.createElement("li");
  item.className = "row";
  const parts = [["span", "name", ""], ["span", "state state-revoked", state], ["span", "quiet", `just now, by ${person}${reason && `: ${reason}`}`]];
  for (const [kind, name, text] of parts) {
    const part = document.createElement(kind);
    part.className = name;
    part.textContent = text;
    item.append(part);
  }
  const strong = document.createElement("strong");
  strong.textContent = title;
  item.firstChild.append(strong);
  const list = element("stopped");
  list.querySelector(".none")?.remove();
  list.prepend(item);
  element("stopped-count").textContent = String(list.children.length);
}

async function stop(kind, body, title, state, done) {
  const before = buttons.map((one) => one.disabled);
  buttons.forEach((one) => (one.disabled = true));
  show("");
  const text = statement(kind, body);
  element("statement").textContent = text;
  try {
    const [{ person }, approval] = await signing.approve(text, keys);
    await signing.post("/api/v1/narrowings", { approval, statement: text });
    element("signed").hidden = false;
    add(title, state, body.reason, person);
    done();
    show(`${title}: ${state}, signed by ${person}. In force at this gate now; the press latches it when it sees it. Only the approvers end it.`, true);
  } catch (error) {
    element("signed").hidden = true;
    show(`${signing.why(error, keys)} Nothing is stopped.`);
  }
  buttons.forEach((one, at) => (one.disabled = before[at]));
}

const reason = () => element("reason").value.trim();

function revoke(button) {
  const { what, target, title } = button.dataset;
  stop("revocation", { reason: reason(), target, what }, title, `revoked ${what}`, () => {
    const said = document.createElement("span");
    said.className = "state state-revoked";
    said.textContent = "revoked";
    button.replaceWith(said);
  });
}

function denyAll() {
  const body = { action: "set", deny_open: true, narrowings: [], project: "", reason: reason() };
  stop("freeze", body, "everything", "denied and frozen", () => {});
}

function freeze(project) {
  const body = { action: "set", narrowings: [], project, reason: reason() };
  stop("freeze", body, project || "everything", "frozen", () => (element("project").value = ""));
}

function freezeOne() {
  const project = element("project").value.trim().toLowerCase().replace(/[-_.]+/g, "-");
  if (!/^(@[a-z0-9][a-z0-9-]*\/)?[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(project)) {
    show("Name the project that is to be frozen, as it is called at the registry.");
    element("project").focus();
    return;
  }
  freeze(project);
}

const refuse = (text) => {
  buttons.forEach((one) => (one.disabled = true));
  show(text);
};
if (location.origin !== page.origin) refuse(`Keys are bound to ${page.origin}. Open ${page.url} to sign.`);
else if (!signing.works()) refuse("This browser cannot use passkeys here. At a terminal: presspass freeze");
else if (!keys.length) buttons.forEach((one) => (one.disabled = true));

for (const one of document.querySelectorAll("button[data-what]")) one.addEventListener("click", () => revoke(one));
element("freeze-one").addEventListener("click", freezeOne);
element("freeze-all").addEventListener("click", () => freeze(""));
element("deny-all").addEventListener("click", denyAll);

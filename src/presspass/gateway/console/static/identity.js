// Sign-in passkeys, terminals that wait, and what admins ask for. Nothing here signs a statement.
const element = (id) => document.getElementById(id);
const page = element("main").dataset;
const link = location.pathname === "/sign-in/keys" ? location.hash.slice(1) : "";

function show(text, good = false) {
  const place = element("outcome");
  place.textContent = text;
  place.hidden = !text;
  place.classList.toggle("good", good);
  if (text) place.scrollIntoView({ block: "nearest" });
}

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({ detail: `The gate answered ${answer.status}. Try again.` }));
  throw new Error([said.detail, said.hint, said.code && `[${said.code}]`].filter(Boolean).join(" "));
}

const why = (error) =>
  error.name === "NotAllowedError"
    ? "The prompt was closed or timed out, or this device has no such passkey that asks for a PIN, fingerprint or face."
    : error.name === "InvalidStateError"
      ? "This device already holds a sign-in passkey of yours."
      : error.message;

async function attempt(button, work) {
  button.disabled = true;
  show("");
  try {
    await work();
  } catch (error) {
    show(why(error));
  } finally {
    button.disabled = false;
  }
}

function here(origin) {
  if (origin !== location.origin) throw new Error(`Keys are bound to ${origin}. Open this page there.`);
}

async function usePasskey() {
  const begun = await post("/api/v1/sign-in/begin", {});
  here(begun.origin);
  const credential = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(begun.public_key) });
  await post("/api/v1/sign-in", { id: begun.id, credential: credential.toJSON() });
  location.assign(page.next);
}

async function makeKey() {
  const begun = await post("/api/v1/sign-in/keys/begin", { link });
  here(begun.origin);
  const credential = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(begun.public_key) });
  const name = element("key-name").value.trim() || "passkey";
  await post("/api/v1/sign-in/keys", { id: begun.id, name, credential: credential.toJSON(), link });
  if (!link) return location.reload();
  history.replaceState(null, "", location.pathname);
  element("making").hidden = true;
  element("done").hidden = false;
  element("done").focus();
}

async function answerTerminal(allow) {
  await post("/api/v1/device", { user_code: element("asking").dataset.code, allow });
  element("asking").hidden = true;
  element("done-title").textContent = allow ? "Allowed: the terminal goes on by itself" : "Denied: the terminal gets nothing";
  element("done").hidden = false;
  element("done").focus();
}

const lines = (form, name) => form.elements[name].value.split("\n").map((one) => one.trim()).filter(Boolean);

async function change(form) {
  const asked = { person: form.dataset.change };
  for (const name of ["addresses", "forge_ids", "groups"]) asked[name] = lines(form, name);
  location.assign((await post("/api/v1/people/changes", asked)).url);
}

async function invite(form) {
  const name = form.elements.name.value.trim();
  const made = await post("/api/v1/people/links", { person: "", name, addresses: lines(form, "addresses"), groups: [], forge_ids: [] });
  element("link-words").textContent = "It works once, for 15 minutes. Hand it to that person alone, over a channel you trust.";
  element("link").textContent = made.url;
}

function onSubmit(form, work) {
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("button"), () => work(form));
  });
}

function onClick(button, work) {
  button?.addEventListener("click", () => attempt(button, work));
}

onClick(element("use-passkey"), usePasskey);
onSubmit(element("make"), makeKey);
for (const button of document.querySelectorAll("[data-remove]"))
  onClick(button, async () => {
    await post("/api/v1/sign-in/keys/remove", { credential: button.dataset.remove });
    location.reload();
  });
onClick(element("allow"), () => answerTerminal(true));
onClick(element("deny"), () => answerTerminal(false));
for (const form of document.querySelectorAll("[data-change]")) onSubmit(form, change);
onSubmit(element("invite-form"), invite);

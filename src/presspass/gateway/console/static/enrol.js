// Makes a passkey for the person a link was made for. The secret of the link comes from the fragment of the address.
const element = (id) => document.getElementById(id);
const link = location.hash.slice(1).replace(/^link=/, "") || new URLSearchParams(location.search).get("link") || "";
const origin = element("main").dataset.origin;

function show(id, text) {
  element(id).textContent = text;
  element(id).hidden = !text;
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({ detail: `The gate answered ${answer.status}. Try again.` }));
  throw new Error([said.detail, said.hint, said.code && `[${said.code}]`].filter(Boolean).join(" "));
}

async function enrol() {
  const begun = await post("/api/v1/enrolments/begin", { link });
  if (begun.origin !== location.origin) throw new Error(`Keys are bound to ${begun.origin}. Open the link there.`);
  const { displayName: person } = begun.public_key.user;
  show("words", `Making a key for ${person}. Your browser asks you now.`);
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.public_key);
  const credential = await navigator.credentials.create({ publicKey });
  const enrolled = await post("/api/v1/enrolments", { link, credential: credential.toJSON() });
  return { ...enrolled, person, next: begun.moving ? "moving" : begun.sealed ? "sealed" : "unsealed" };
}

function done(result) {
  show("words", "");
  element("before").hidden = true;
  show("person", result.person);
  for (const four of result.key.match(/.{4}/g)) {
    const group = document.createElement("span");
    group.textContent = four;
    element("fingerprint").append(group, " ");
  }
  element(`next-${result.next}`).hidden = false;
  if (result.request) element("request").href = `/q/${result.request}`;
  element("done").hidden = false;
  element("done").focus();
  history.replaceState(null, "", location.pathname);
}

function why(error) {
  if (error.name === "NotAllowedError")
    return "No key was made: the prompt was closed or timed out, or the key does not ask for a PIN, fingerprint or face. Set one on it, then try again.";
  if (error.name === "InvalidStateError") return "This device already holds a key of yours for this gate. Use another device or security key.";
  return error.message;
}

async function begin() {
  element("begin").disabled = true;
  show("outcome", "");
  try {
    done(await enrol());
  } catch (error) {
    show("words", "");
    show("outcome", why(error));
    element("begin").disabled = false;
    element("begin").textContent = "Try again";
  }
}

function hindrance() {
  if (!link) return "This address lacks the secret of the link. Open the link exactly as you were given it.";
  if (location.origin !== origin) return `Keys are bound to ${origin}. Open the link there.`;
  if (!globalThis.PublicKeyCredential?.parseCreationOptionsFromJSON) return "This browser is too old for enrolling a passkey here. Use a current one.";
  return "";
}

element("begin").disabled = Boolean(hindrance());
show("outcome", hindrance());
element("begin").addEventListener("click", begin);

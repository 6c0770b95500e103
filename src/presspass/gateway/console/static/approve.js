// Signing with a passkey. What is signed is computed here, from the text shown here; nothing is taken from the gate.
const TAG = "presspass/approval/v1\n";
const element = (id) => document.getElementById(id);
const main = element("main");
const page = main.dataset;
const buttons = ["approve", "veto"].map(element);
const signers = [...document.querySelectorAll("#keys [data-key]")].map((row) => row.dataset);

const sha256 = async (text) => new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const usable = (intent) => signers.filter((one) => one.credential && (intent === "veto" || one.counts === "yes"));

function show(id, text, good = false) {
  const place = element(id);
  place.textContent = text;
  place.hidden = !text;
  place.classList.toggle("good", good);
}

async function textToSign(intent) {
  const approve = element("statement-approve").textContent;
  const text = element(`statement-${intent}`).textContent;
  const twin = approve.replace('"intent":"approve"', `"intent":"${intent}"`);
  if (hex(await sha256(approve)) !== page.request || text !== twin)
    throw new Error("The statement on this page is not the one it claims to be. Do not sign; tell whoever runs the gate.");
  return text;
}

async function sign(intent) {
  const text = await textToSign(intent);
  const keys = usable(intent);
  if (!keys.length) throw new Error(`No key that counts works in a browser. ${atTerminal(intent)}`);
  const credential = await navigator.credentials.get({
    publicKey: {
      challenge: await sha256(TAG + text),
      allowCredentials: keys.map((one) => ({ type: "public-key", id: decode(one.credential) })),
      userVerification: "required",
      timeout: 120000,
    },
  });
  const signer = keys.find((one) => one.credential === credential.id);
  await send(intent, {
    // members in the order of RFC 8785 and plain ASCII: JSON.stringify gives the canonical form
    authenticator_data: encode(credential.response.authenticatorData),
    client_data: encode(credential.response.clientDataJSON),
    form: "webauthn",
    key: signer.key,
    signature: encode(credential.response.signature),
    statement: hex(await sha256(text)),
  });
  return `${signer.person} has signed to ${intent}. The press checks it now.`;
}

async function send(intent, approval) {
  const note = intent === "veto" ? element("note").value.trim() : "";
  const query = note ? `?note=${encodeURIComponent(note)}` : "";
  const answer = await fetch(`/api/v1/requests/${page.request}/approvals${query}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(approval),
  });
  if (answer.ok) return;
  const said = await answer.json().catch(() => ({ detail: `The gate answered ${answer.status}. Try again.` }));
  throw new Error([said.detail, said.hint, said.code && `[${said.code}]`].filter(Boolean).join(" "));
}

const atTerminal = (intent) => `Sign at a terminal: presspass ${intent} ${page.url}`;

function why(error, intent) {
  if (error.name !== "NotAllowedError") return error.message;
  const people = [...new Set(usable(intent).map((one) => one.person))].join(", ");
  return `No signature was made: the prompt was closed or timed out, or this device has none of the keys listed below that verifies you by PIN, fingerprint or face. Such keys belong to: ${people}. Try again where the key is. ${atTerminal(intent)}`;
}

async function decide(intent) {
  const before = buttons.map((one) => one.disabled);
  buttons.forEach((one) => (one.disabled = true));
  show("outcome", "");
  try {
    show("outcome", await sign(intent), true);
    if (intent === "approve") element("veto").disabled = false;
  } catch (error) {
    show("outcome", why(error, intent));
    buttons.forEach((one, at) => (one.disabled = before[at]));
  }
}

if (location.origin !== page.origin) {
  buttons.forEach((one) => (one.disabled = true));
  show("outcome", `Keys are bound to ${page.origin}. Open ${page.url} to sign.`);
} else if (!globalThis.PublicKeyCredential || !globalThis.crypto?.subtle) {
  buttons.forEach((one) => (one.disabled = true));
  show("outcome", `This browser cannot use passkeys here. ${atTerminal("approve")}`);
}
element("approve").addEventListener("click", () => decide("approve"));
element("veto").addEventListener("click", () => decide("veto"));

// Signing a request with a passkey. What is signed is computed here, from the text shown here; nothing is taken from the gate.
const element = (id) => document.getElementById(id);
const main = element("main");
const page = main.dataset;
const buttons = ["approve", "veto"].map(element);
const usable = (intent) => signing.keys.filter((one) => one.credential && (intent === "veto" || one.counts === "yes"));

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
  if ((await signing.sha256(approve)) !== page.request || text !== twin)
    throw new Error("The statement on this page is not the one it claims to be. Do not sign; tell whoever runs the gate.");
  return text;
}

async function sign(intent) {
  const text = await textToSign(intent);
  const keys = usable(intent);
  if (!keys.length) throw new Error(`No key that counts works in a browser. ${atTerminal(intent)}`);
  const [signer, approval] = await signing.approve(text, keys);
  const note = intent === "veto" ? element("note").value.trim() : "";
  const query = note ? `?note=${encodeURIComponent(note)}` : "";
  await signing.post(`/api/v1/requests/${page.request}/approvals${query}`, approval);
  return `${signer.person} has signed to ${intent}. The press checks it now.`;
}

const atTerminal = (intent) => `Sign at a terminal: presspass ${intent} ${page.url}`;

function why(error, intent) {
  const said = signing.why(error, usable(intent));
  return error.name === "NotAllowedError" ? `${said} ${atTerminal(intent)}` : said;
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
} else if (!signing.works()) {
  buttons.forEach((one) => (one.disabled = true));
  show("outcome", `This browser cannot use passkeys here. ${atTerminal("approve")}`);
}
element("approve").addEventListener("click", () => decide("approve"));
element("veto").addEventListener("click", () => decide("veto"));

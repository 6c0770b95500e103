// One approval by a passkey: over exactly the text that is given, by one of the keys that are named. For other scripts.
const TAG = "presspass/approval/v1\n";
const bytes = async (text) => new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
const hex = (found) => Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

// `keys`: {key, credential, person}, as the tables of keys have them. Returns whose key it was, and the approval.
async function approve(text, keys) {
  const credential = await navigator.credentials.get({
    publicKey: {
      challenge: await bytes(TAG + text),
      allowCredentials: keys.map((one) => ({ type: "public-key", id: decode(one.credential) })),
      userVerification: "required",
      timeout: 120000,
    },
  });
  const signer = keys.find((one) => one.credential === credential.id);
  const approval = {
    // members in the order of RFC 8785 and plain ASCII: JSON.stringify gives the canonical form
    authenticator_data: encode(credential.response.authenticatorData),
    client_data: encode(credential.response.clientDataJSON),
    form: "webauthn",
    key: signer.key,
    signature: encode(credential.response.signature),
    statement: hex(await bytes(text)),
  };
  return [signer, approval];
}

async function post(address, value) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(value),
  });
  if (answer.ok) return;
  const said = await answer.json().catch(() => ({ detail: `The gate answered ${answer.status}. Try again.` }));
  throw new Error([said.detail, said.hint, said.code && `[${said.code}]`].filter(Boolean).join(" "));
}

// Why a browser made no signature, in words; an error of another kind says it itself.
function why(error, keys) {
  if (error.name !== "NotAllowedError") return error.message;
  const people = [...new Set(keys.map((one) => one.person))].join(", ");
  return `No signature was made: the prompt was closed or timed out, or this device has none of the keys listed below that verifies you by PIN, fingerprint or face. Such keys belong to: ${people}. Try again where the key is.`;
}

globalThis.signing = Object.freeze({
  approve,
  post,
  why,
  keys: [...document.querySelectorAll("#keys [data-key]")].map((row) => row.dataset),
  random: () => hex(crypto.getRandomValues(new Uint8Array(16))),
  sha256: async (text) => hex(await bytes(text)),
  works: () => Boolean(globalThis.PublicKeyCredential && globalThis.crypto?.subtle),
});

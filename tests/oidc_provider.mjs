// A certified OpenID provider where people sign in: authorization code with PKCE, a login page in few lines.
//
//   node oidc_provider.mjs CONFIG.json
//
// CONFIG: issuer (the URL, also the `iss`), port, modules (the folder with oidc-provider), clients (as oidc-provider takes
// them), jwks ({keys: private JWKs}), claims (more claims of every ID token, by name).
// The login page takes any name as the subject, without a password: it lives as long as a test.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const resolve = createRequire(join(config.modules, 'here.js')).resolve;
const { default: Provider } = await import(pathToFileURL(resolve('oidc-provider')));

const provider = new Provider(config.issuer, {
  clients: config.clients,
  jwks: config.jwks,
  claims: { openid: ['sub', ...Object.keys(config.claims ?? {})] },
  conformIdTokenClaims: false,
  cookies: { keys: ['a key for the cookies of a test'] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, ...config.claims }) }),
  pkce: { required: () => true },
});

const page = (uid) => `<!doctype html><html lang="en"><title>Provider</title><link rel="icon" href="data:,">
<form method="post" action="/interaction/${uid}"><label>Name <input name="subject" autofocus></label><button>Sign in</button></form></html>`;

async function bodyOf(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return new URLSearchParams(text);
}

async function granted(details) {
  const grant = new provider.Grant({ accountId: details.session.accountId, clientId: details.params.client_id });
  grant.addOIDCScope(details.params.scope);
  return grant.save();
}

async function interact(request, response) {
  const details = await provider.interactionDetails(request, response);
  if (details.prompt.name === 'consent') {
    const result = { consent: { grantId: await granted(details) } };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
  }
  if (request.method !== 'POST') {
    response.writeHead(200, { 'content-type': 'text/html' });
    return response.end(page(details.uid));
  }
  const result = { login: { accountId: (await bodyOf(request)).get('subject') } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

const usual = provider.callback();
createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return usual(request, response);
  return interact(request, response).catch((error) => {
    response.writeHead(400);
    response.end(String(error));
  });
}).listen(config.port, '127.0.0.1');

// A certified OpenID provider as a CI system runs one: it signs what it knows about a job, for the audience asked for.
//
//   node workload_issuer.mjs CONFIG.json
//
// CONFIG: issuer (the URL, also the `iss`), port, modules (the folder with oidc-provider), tls ({cert, key} as PEM, or
// null for http), keys (private JWKs, the signing one first), alg, client ({id, secret}).
// The job's claims come with the token request, in the header `workload-claims` (base64url of JSON), the way a CI
// system would look them up by the run that asks. They may replace what the provider sets itself; null removes.

import { readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const resolve = createRequire(join(config.modules, 'here.js')).resolve;
const { default: Provider } = await import(pathToFileURL(resolve('oidc-provider')));

// A resource indicator is an absolute URI (RFC 8707, section 2); audiences like "pypi" are not, so they travel inside one.
const AUDIENCE = 'urn:audience:';
const LIFETIME_S = 300;

const provider = new Provider(config.issuer, {
  jwks: { keys: config.keys },
  clients: [
    {
      client_id: config.client.id,
      client_secret: config.client.secret,
      grant_types: ['client_credentials'],
      id_token_signed_response_alg: config.alg,
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (_ctx, resource) => ({
        scope: '',
        audience: decodeURIComponent(resource.slice(AUDIENCE.length)),
        accessTokenTTL: LIFETIME_S,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: config.alg, kid: config.keys[0].kid } },
      }),
    },
  },
  formats: {
    customizers: {
      jwt: async (ctx, _token, jwt) => {
        const header = ctx.get('workload-claims');
        const claims = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
        const { client_id: _client, ...own } = jwt.payload;
        const merged = { ...own, nbf: own.iat, ...claims };
        jwt.payload = Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null));
        // An ID token's type rather than an access token's, as CI systems send it.
        jwt.header = { typ: 'JWT' };
      },
    },
  },
});

const server = config.tls
  ? createHttpsServer({ cert: config.tls.cert, key: config.tls.key }, provider.callback())
  : createHttpServer(provider.callback());
server.listen(config.port, '127.0.0.1');

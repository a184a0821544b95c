/** Tokens for websocktunnel servers (protocol: "Third-party credentials"): JSON web tokens under a secret that both sides are configured with. */
import { createHmac } from 'node:crypto';

const LIFETIME_S = 96 * 3600;
const SKEW_S = 15 * 60;

const encoded = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');

/** A token by which `clientId` may connect to the server `audience` under the name `tunnelClient`, for 96 hours. */
export const makeTunnelToken = (
  secret: string,
  { tunnelClient, audience, clientId, nowMs }: { tunnelClient: string; audience: string; clientId: string; nowMs: number },
): { token: string; expires: Date } => {
  const iat = Math.floor(nowMs / 1000);
  const exp = iat + LIFETIME_S;
  const payload = { tid: tunnelClient, aud: audience, sub: clientId, iat, exp, nbf: iat - SKEW_S, iss: 'taskcluster-auth' };
  const signed = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded(payload)}`;
  const signature = createHmac('sha256', secret).update(signed).digest('base64url');
  return { token: `${signed}.${signature}`, expires: new Date(exp * 1000) };
};

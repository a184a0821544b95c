/** Where a process has the access tokens of its services' clients from. */
import { BUILT_IN_CLIENTS } from '../services/auth/static-clients.ts';
import type { ProcessSettings } from './settings.ts';

const clientOf = (service: string): string => `static/taskcluster/${service}`;

const readStaticClients = (text: string | undefined): Map<string, string> => {
  try {
    const clients = JSON.parse(text ?? '[]') as { clientId: string; accessToken: string }[];
    return new Map(clients.map(({ clientId, accessToken }) => [clientId, accessToken]));
  } catch {
    return new Map(); // auth says what is wrong with it
  }
};

type TokenSettings = Partial<Pick<ProcessSettings, 'serviceTokens' | 'clientId' | 'accessToken'>>;

/** Answers with a service's token; undefined when it was not given. */
export const findTokens = (
  settings: TokenSettings,
  environment: Readonly<Record<string, string | undefined>>,
): ((service: string) => string | undefined) => {
  const { serviceTokens = {}, clientId, accessToken } = settings;
  const configured = readStaticClients(environment['STATIC_CLIENTS']);
  return service =>
    (Object.hasOwn(serviceTokens, service) ? serviceTokens[service] : undefined) ??
    configured.get(clientOf(service)) ??
    (clientId === clientOf(service) ? accessToken : undefined);
};

/** What is missing for these services, in words. */
export const checkTokens = (
  settings: TokenSettings,
  environment: Readonly<Record<string, string | undefined>>,
  services: readonly string[],
): string[] => {
  const tokenOf = findTokens(settings, environment);
  const clients = Object.keys(BUILT_IN_CLIENTS);
  // auth tells apart the clients of all services, those that run elsewhere too
  const needed = services.includes('auth') ? clients : clients.filter(name => services.includes(name));
  const missing = needed.filter(name => tokenOf(name) === undefined);
  return missing.length === 0 ? [] : [`SERVICE_TOKENS lacks the access tokens of these services: ${missing.join(', ')}`];
};

import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { hasTwoSchemes, hawkRequest } from './caller.ts';

const request = (headers: Record<string, string | string[]>, more: { url?: string; method?: string; encrypted?: boolean } = {}) =>
  hawkRequest({
    method: more.method ?? 'GET',
    url: more.url ?? '/api/x?y=1',
    headers,
    socket: { encrypted: more.encrypted ?? false },
  } as unknown as IncomingMessage);
const place = (...given: Parameters<typeof request>) => {
  const { host, port } = request(...given);
  return `${host} ${port}`;
};

describe('what was signed', () => {
  test('names host and port of the Host header, or the port of the scheme', () => {
    expect(place({ host: 'tc.example:8080' })).toBe('tc.example 8080');
    expect(place({ host: 'tc.example' })).toBe('tc.example 80');
    expect(place({ host: 'tc.example' }, { encrypted: true })).toBe('tc.example 443');
    expect(place({ host: '[::1]:8080' })).toBe('[::1] 8080');
    expect(place({})).toBe(' 80');
  });

  test('names the port that a proxy forwards, before what it says of the scheme', () => {
    expect(place({ host: 'tc.example:8080', 'x-forwarded-port': '8443' })).toBe('tc.example 8443');
    expect(place({ host: 'tc.example', 'x-forwarded-port': '81', 'x-forwarded-proto': 'https' })).toBe('tc.example 81');
    expect(place({ host: 'tc.example', 'x-forwarded-proto': 'https' })).toBe('tc.example 443');
    expect(place({ host: 'tc.example:8080', 'x-forwarded-proto': 'https' })).toBe('tc.example 443');
    expect(place({ host: 'tc.example:8080', 'x-forwarded-proto': 'http' })).toBe('tc.example 8080');
    expect(place({ host: 'tc.example', 'x-forwarded-port': 'many' })).toBe('tc.example 80');
    expect(place({ host: 'tc.example', 'x-forwarded-port': ['1', '2'] })).toBe('tc.example 1');
  });

  test('has path and query as received, the method in lower case, and no empty header', () => {
    const { method, resource, authorization } = request({ host: 'x', authorization: '' }, { method: 'POST', url: '/a%2Fb?' });
    expect({ method, resource, authorization }).toEqual({ method: 'post', resource: '/a%2Fb?', authorization: undefined });
  });
});

test('a header and a bewit are two schemes; a bewit is one wherever it stands in the query', () => {
  const two = (url: string) => hasTwoSchemes(request({ host: 'x', authorization: 'Hawk' }, { url }));
  expect([two('/a?bewit=x'), two('/a?b=1&bewit=x'), two('/a?xbewit=x'), two('/a/bewit=x')]).toEqual([true, true, false, false]);
  expect(hasTwoSchemes(request({ host: 'x' }, { url: '/a?bewit=x' }))).toBe(false);
});

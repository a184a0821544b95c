import type { AuthenticateHawkResponse } from '@tscluster/api/auth/scopes.ts';
import { ApiCallError, ConnectionError } from '@tscluster/client/client.ts';
import { describe, expect, test } from 'vitest';
import { makeFakeClock } from '../testing/clock.ts';
import type { HawkRequest } from './caller.ts';
import { silentLog } from './log.ts';
import { makeMetrics } from './metrics.ts';
import { makeRemoteAuthenticator } from './remote-authenticator.ts';

type Batch = { requests: HawkRequest[] };
type Reply = { results: AuthenticateHawkResponse[]; freshForMs: number };

const request = (resource: string, authorization?: string): HawkRequest => ({
  method: 'get',
  resource,
  host: 'tc.example.com',
  port: 443,
  ...(authorization !== undefined && { authorization }),
});
const success = (clientId: string): AuthenticateHawkResponse => ({
  status: 'auth-success',
  scheme: 'hawk',
  clientId,
  scopes: ['a:*'],
  expires: '2030-01-01T00:00:00.000Z',
});
const noAuth = (scopes: string[]): AuthenticateHawkResponse => ({
  status: 'no-auth',
  scheme: 'none',
  scopes,
  expires: '2030-01-01T00:00:00.000Z',
});

/** An auth that answers as it is told, in the order in which it is asked. */
const withAuth = (answers: ((batch: Batch) => Promise<Reply>)[]) => {
  const clock = makeFakeClock(0);
  const asked: Batch[] = [];
  const authenticator = makeRemoteAuthenticator({
    auth: {
      authenticateHawkBatch: (async (batch: Batch) => {
        asked.push(batch);
        const answer = answers.shift();
        if (!answer) {
          throw new Error('Asked too often');
        }
        return answer(batch);
      }) as never,
    },
    clock,
    log: silentLog,
    metrics: makeMetrics(),
  });
  return { authenticator, clock, asked };
};

const byHeader = ({ requests }: Batch): Promise<Reply> =>
  Promise.resolve({ results: requests.map(each => success(each.authorization ?? '?')), freshForMs: 500 });
const never = (): Promise<Reply> => new Promise(() => undefined);
const refused = (): Promise<Reply> => Promise.reject(new ConnectionError('no answer', 'ECONNREFUSED', undefined));

describe('checks by auth elsewhere', () => {
  test('each caller gets its own answer', async () => {
    const { authenticator } = withAuth(Array.from({ length: 20 }, () => byHeader));
    const names = Array.from({ length: 50 }, (_, i) => `client-${i}`);
    const results = await Promise.all(names.map(async name => authenticator.authenticate(request('/x', name))));
    expect(results).toEqual(
      names.map(clientId => ({
        status: 'auth-success',
        scheme: 'hawk',
        clientId,
        scopes: ['a:*'],
        expires: new Date('2030-01-01T00:00:00.000Z'),
      })),
    );
  });

  test('checks that come while calls are under way go together', async () => {
    const gates = Array.from({ length: 4 }, () => Promise.withResolvers<void>());
    const gated = gates.map(gate => async (batch: Batch) => {
      await gate.promise;
      return byHeader(batch);
    });
    const { authenticator, asked } = withAuth([...gated, byHeader, byHeader, byHeader, byHeader]);
    const first: unknown[] = [];
    for (let i = 0; i < 4; i++) {
      first.push(authenticator.authenticate(request('/x', `first-${i}`)));
      await new Promise(resolve => setImmediate(resolve));
    }
    expect(asked.map(batch => batch.requests.length)).toEqual([1, 1, 1, 1]);
    const later = Array.from({ length: 40 }, (_, i) => authenticator.authenticate(request('/x', `later-${i}`)));
    gates.forEach(gate => gate.resolve());
    await Promise.all([...first, ...later]);
    expect(asked.slice(4).map(batch => batch.requests.length)).toEqual([10, 10, 10, 10]);
  });

  test('a call that hangs does not hold up the others', async () => {
    const { authenticator } = withAuth([never, byHeader, byHeader, byHeader]);
    void authenticator.authenticate(request('/x', 'hangs'));
    await new Promise(resolve => setImmediate(resolve));
    for (let i = 0; i < 3; i++) {
      expect(await authenticator.authenticate(request('/x', `goes-on-${i}`))).toMatchObject({ clientId: `goes-on-${i}` });
    }
  });

  test('a payload hash and a refusal are passed on', async () => {
    const { authenticator } = withAuth([
      async () => ({ results: [{ ...success('c'), hash: 'abc' } as AuthenticateHawkResponse], freshForMs: 0 }),
      async () => ({ results: [{ status: 'auth-failed', message: 'Unauthorized: Bad mac' }], freshForMs: 0 }),
    ]);
    expect(await authenticator.authenticate(request('/x', 'c'))).toMatchObject({ hash: 'abc' });
    expect(await authenticator.authenticate(request('/x', 'c'))).toEqual({ status: 'auth-failed', message: 'Unauthorized: Bad mac' });
  });

  test("auth's brief absence is waited out", async () => {
    const { authenticator, clock, asked } = withAuth([
      refused,
      () => Promise.reject(new ApiCallError('starting', 'ServiceUnavailable', 503, {})),
      byHeader,
    ]);
    const result = authenticator.authenticate(request('/x', 'patient'));
    await clock.tick({ seconds: 1 });
    expect(await result).toMatchObject({ status: 'auth-success', clientId: 'patient' });
    expect(asked.length).toBe(3);
  });

  test('after ten seconds without an answer all are refused with 503', async () => {
    const { authenticator, clock } = withAuth(Array.from({ length: 200 }, () => refused));
    const results = Promise.allSettled([1, 2].map(async i => authenticator.authenticate(request('/x', `c${i}`))));
    await clock.tick({ seconds: 11 });
    for (const result of await results) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ServiceUnavailable' } });
    }
  });

  test('an answer that makes no sense lets nobody in', async () => {
    const { authenticator } = withAuth([
      () => Promise.resolve({ results: [], freshForMs: 0 }),
      () => Promise.reject(new ApiCallError('what?', 'InputError', 400, {})),
    ]);
    await expect(authenticator.authenticate(request('/x', 'c'))).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    await expect(authenticator.authenticate(request('/x', 'c'))).rejects.toMatchObject({ code: 'ServiceUnavailable' });
  });
});

describe('callers without credentials', () => {
  const answers = (...scopes: string[]): ((batch: Batch) => Promise<Reply>)[] =>
    scopes.map(scope => async () => ({ results: [noAuth([scope])], freshForMs: 400 }));

  test('are remembered for as long as auth says', async () => {
    const { authenticator, clock, asked } = withAuth(answers('one', 'two'));
    expect(await authenticator.authenticate(request('/x'))).toMatchObject({ scopes: ['one'] });
    clock.advance({ ms: 399 });
    expect(await authenticator.authenticate(request('/y'))).toEqual({
      status: 'no-auth',
      scheme: 'none',
      scopes: ['one'],
      expires: new Date(399 + 900_000),
    });
    clock.advance({ ms: 1 });
    expect(await authenticator.authenticate(request('/x'))).toMatchObject({ scopes: ['two'] });
    expect(asked.length).toBe(2);
  });

  test('are asked for again after a change, also one that happens meanwhile', async () => {
    const gate = Promise.withResolvers<void>();
    const [one, two, three] = answers('one', 'two', 'three') as [
      (batch: Batch) => Promise<Reply>,
      (batch: Batch) => Promise<Reply>,
      (batch: Batch) => Promise<Reply>,
    ];
    const { authenticator } = withAuth([
      one,
      async batch => {
        await gate.promise;
        return two(batch);
      },
      three,
    ]);
    await authenticator.authenticate(request('/x'));
    authenticator.forget();
    const during = authenticator.authenticate(request('/x'));
    await new Promise(resolve => setImmediate(resolve));
    authenticator.forget();
    gate.resolve();
    expect(await during).toMatchObject({ scopes: ['two'] });
    expect(await authenticator.authenticate(request('/x'))).toMatchObject({ scopes: ['three'] });
  });

  test('are told apart from signed URLs', async () => {
    const { authenticator, asked } = withAuth([...answers('one'), () => Promise.resolve({ results: [success('c')], freshForMs: 400 })]);
    await authenticator.authenticate(request('/x'));
    expect(await authenticator.authenticate(request('/x?bewit=abc'))).toMatchObject({ clientId: 'c' });
    expect(asked.length).toBe(2);
  });
});

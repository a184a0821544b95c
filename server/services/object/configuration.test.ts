import { expect, test } from 'vitest';
import { checkBackendMap, readBackendMap, readBackends, readMiddleware } from './configuration.ts';

const choose = (map: unknown, object: { name: string; projectId: string }): string | undefined =>
  readBackendMap(map).find(rule => rule.matches(object))?.backendId;

test('the first rule whose patterns all match is taken', () => {
  const map = [
    { backendId: 'both', when: { name: { is: 'n' }, projectId: { regexp: '^p' } } },
    { backendId: 'name', when: { name: { regexp: 'log' } } },
    { backendId: 'project', when: { projectId: 'p' } },
  ];
  expect(choose(map, { name: 'n', projectId: 'px' })).toBe('both');
  expect(choose(map, { name: 'a/log/b', projectId: 'p' })).toBe('name');
  expect(choose(map, { name: 'n', projectId: 'q' })).toBeUndefined();
  expect(choose(map, { name: 'm', projectId: 'p' })).toBe('project');
  expect(choose(map, { name: 'm', projectId: 'px' })).toBeUndefined();
  expect(choose([{ backendId: 'a', when: 'all' }], { name: 'm', projectId: 'q' })).toBe('a');
});

test.each([
  [{}, 'must be a list of rules'],
  [[{ when: 'all' }], 'rule 1 needs a backendId and a "when"'],
  [[{ backendId: 'a' }], 'rule 1 needs a backendId and a "when"'],
  [[{ backendId: 'a', when: 'some' }], 'rule 1: "when" must be "all" or an object'],
  [[{ backendId: 'a', when: { size: '1' } }], 'rule 1: "when" has unknown keys: size'],
  [[{ backendId: 'a', when: 'all', then: 1 }], 'rule 1 has unknown keys: then'],
  [[{ backendId: 'a', when: { name: 7 } }], 'rule 1: "when".name must be a string'],
  [[{ backendId: 'a', when: { name: { is: 'x', regexp: 'y' } } }], 'rule 1: "when".name must be a string'],
  [[{ backendId: 'a', when: { name: { regexp: '(' } } }], 'rule 1: "when".name.regexp is not a regular expression'],
])('the map %j is refused', (map, message) => {
  expect(() => readBackendMap(map)).toThrow(message);
});

test.each([
  [[], 'must be an object from backend id'],
  [{ a: {} }, 'the backend "a" needs a backendType'],
  [{ a: { backendType: 'tape' } }, 'the backend "a" has the type "tape", which does not exist here; there are: local, aws'],
  [{ a: { backendType: 'local', colour: 'red' } }, 'the backend "a" has options that the type local does not know: colour'],
])('the backends %j are refused', (backends, message) => {
  expect(() => readBackends(backends)).toThrow(message);
});

test('a rule for a backend that does not exist is refused', () => {
  const backends = readBackends({ a: { backendType: 'local' } });
  expect(() => checkBackendMap(readBackendMap([{ backendId: 'b', when: 'all' }]), backends)).toThrow(
    'the backend "b", which BACKENDS does not have',
  );
  expect(() => checkBackendMap(readBackendMap([{ backendId: 'a', when: 'all' }]), backends)).not.toThrow();
});

test.each([
  [{}, 'must be a list'],
  [[{ middlewareType: 'magic' }], 'entry 1 needs the middlewareType "cdn"'],
  [[{ middlewareType: 'cdn', regexp: 'x', baseUrl: 'no' }], 'entry 1 needs a baseUrl'],
  [[{ middlewareType: 'cdn', regexp: '(', baseUrl: 'https://x/' }], 'entry 1: "regexp" is not a regular expression'],
])('the middleware %j is refused', (middleware, message) => {
  expect(() => readMiddleware(middleware)).toThrow(message);
});

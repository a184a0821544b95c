import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { processEngine } from './engines/process.ts';
import { nativePayload, payloadValidator, type PayloadPart } from './payload.ts';
import { plugins } from './plugins/all.ts';

interface Case {
  readonly name: string;
  readonly schema: string;
  readonly valid: boolean;
  readonly payload: Record<string, unknown>;
}

const { cases } = JSON.parse(readFileSync(new URL('testing/fixtures/payloads.json', import.meta.url), 'utf8')) as { cases: Case[] };
const parts = [processEngine.payload, ...plugins.map(({ payload }) => payload)];
const boolean = { type: 'boolean' };
/** Workers with a user per task know two features more. */
const multiuser: PayloadPart = { features: { chainOfTrust: boolean, runTaskAsCurrentUser: boolean } };

const validators: Record<string, ReturnType<typeof payloadValidator>> = {
  'generic-worker-insecure-posix.json': payloadValidator(parts),
  'generic-worker-multiuser-posix.json': payloadValidator([...parts, multiuser]),
  'docker-worker-payload.json': payloadValidator(parts),
};

const posixCases = cases.filter(({ schema }) => schema in validators);

test('the fixture has the cases it is meant to have', () => {
  expect(posixCases.length).toBe(cases.filter(({ schema }) => schema !== 'generic-worker-multiuser-windows.json').length);
  expect(posixCases.length).toBeGreaterThan(20);
});

test.each(posixCases)('$name', ({ schema, valid, payload }) => {
  const verdict = validators[schema]?.(payload);
  expect(verdict?.valid, JSON.stringify(verdict)).toBe(valid);
});

test('problems name the place and what is wrong there', () => {
  const verdict = payloadValidator(parts)({
    command: [],
    maxRunTime: 'long',
    privileged: true,
    features: { chainOfTrust: true },
    env: { N: 3 },
  });
  expect(verdict).toEqual({
    valid: false,
    problems: [
      'payload must not have a property "privileged"',
      'payload.command must NOT have fewer than 1 items',
      'payload.env.N must be string',
      'payload.maxRunTime must be integer',
      'payload.features must not have a property "chainOfTrust"',
    ],
  });
});

test('a property is declared by one part only', () => {
  expect(() => nativePayload([...parts, { properties: { env: {} } }])).toThrow('The payload property "env" is declared twice.');
});

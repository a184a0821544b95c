/** Hooks for tests: what a test does not care about is filled in. */
import { aScript, aTask } from './tasks.ts';

const { created: _created, deadline: _deadline, expires: _expires, ...rest } = aTask();

/** A template of a task for the local worker. */
export const aTemplate = rest;

export const aHook = (fields: object = {}) => ({
  metadata: { name: 'e2e', description: 'for a test', owner: 'owner@example.com', emailOnError: false },
  task: { ...aTemplate, payload: aScript('true') },
  triggerSchema: { type: 'object' },
  ...fields,
});

/** Every engine a worker can have; its configuration chooses one. */
import type { EngineDefinition } from './engine.ts';
import { fakeEngine } from './fake.ts';
import { processEngine } from './process.ts';

export const engines: readonly EngineDefinition[] = [processEngine, fakeEngine];

/** Every service; a whole installation runs them all. Authentication stands first, because the others ask it who calls. */
import type { Service } from '../platform/service.ts';
import { builtInWorkers } from './built-in-workers/service.ts';

export const allServices: readonly Service[] = [builtInWorkers];

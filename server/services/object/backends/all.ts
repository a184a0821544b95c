/** Every kind of backend, by the `backendType` of the configuration. */
import { aws } from './aws.ts';
import type { BackendType } from './backend.ts';
import { local } from './local.ts';

export const backendTypes: readonly BackendType[] = [local, aws];

/** Every method of the published JavaScript client, unmodified. */
import { npmLibrary } from './support/published/npm.ts';
import { describeLibrary } from './support/published/suite.ts';

describeLibrary(async () => npmLibrary, { unknown: ['queue.declareProvisioner', 'queue.declareWorkerType'] });

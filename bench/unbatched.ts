/** Loaded into a server before it starts (`--import`): every call has a transaction of its own. */
import { limitBatches } from '../server/db/batcher.ts';

limitBatches(1);

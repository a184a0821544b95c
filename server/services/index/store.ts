/** The two hot ways into the index, batched: what arrives while a statement is under way goes into the next one together, each with its own outcome. */
import { makeBatcher } from '../../db/batcher.ts';
import type { Lane } from '../../db/lane.ts';
import type { Clock } from '../../platform/clock.ts';
import { type Entry, findStatement, insertStatement, type NewEntry } from './entries.db.ts';
import { pathOf, type Place } from './paths.ts';

export interface IndexStore {
  /** The unexpired entry at a place. */
  find(place: Place): Promise<Entry | undefined>;
  /** Inserts by hand; answers with what is at the place afterwards: a present entry of a higher rank stays. */
  insert(entry: NewEntry): Promise<Entry>;
  drain(): Promise<void>;
}

/** Entries with more data go alone. */
const MAX_BATCHED_BYTES = 64 * 1024;

/** Reads and writes have a lane each: a read does not wait for a commit. */
export const makeIndexStore = (lanes: { readonly read: Lane; readonly write: Lane }, clock: Clock): IndexStore => {
  const lookUp = async (places: readonly Place[]): Promise<Map<string, Entry>> => {
    const distinct = [...new Map(places.map(place => [pathOf(place), place])).values()];
    const [rows] = await lanes.read.run([findStatement(distinct, clock.nowMs())]);
    return new Map((rows as Entry[]).map(row => [pathOf(row), row]));
  };
  const finds = makeBatcher<Place, Entry | undefined>({
    flush: async places => {
      const found = await lookUp(places);
      return places.map(place => found.get(pathOf(place)));
    },
  });

  const insertAll = async (entries: readonly NewEntry[]): Promise<Map<string, Entry>> => {
    const [rows] = await lanes.write.run([insertStatement(entries, 'call', clock.nowMs())]);
    const stored = new Set((rows as Place[]).map(pathOf));
    const results = new Map<string, Entry>(entries.map(entry => [pathOf(entry), entry]));
    const refused = entries.filter(entry => !stored.has(pathOf(entry)));
    if (refused.length > 0) {
      const present = await lookUp(refused);
      // what was in the way may have gone meanwhile
      const again = refused.filter(entry => !present.has(pathOf(entry)));
      for (const [path, entry] of [...present, ...(again.length > 0 ? await insertAll(again) : [])]) {
        results.set(path, entry);
      }
    }
    return results;
  };
  const inserts = makeBatcher<NewEntry, Entry>({
    key: pathOf,
    flush: async entries => {
      const results = await insertAll(entries);
      return entries.map(entry => results.get(pathOf(entry)) as Entry);
    },
  });

  return {
    find: place => finds.add(place),
    insert: async entry =>
      entry.data.length > MAX_BATCHED_BYTES ? ((await insertAll([entry])).get(pathOf(entry)) as Entry) : inserts.add(entry),
    drain: async () => {
      await inserts.drain();
      await finds.drain();
    },
  };
};

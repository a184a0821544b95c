import { describe, expect, it } from 'vitest';
import { makeBatcher } from './batcher.ts';

const deferred = () => {
  let resolve = (): void => {};
  const promise = new Promise<void>(done => (resolve = done));
  return { promise, resolve };
};

describe('the batcher', () => {
  it('sends what arrives in one turn together, and what arrives meanwhile as the next batch', async () => {
    const batches: number[][] = [];
    const gate = deferred();
    const batcher = makeBatcher<number, number>({
      flush: async items => {
        batches.push([...items]);
        if (batches.length === 1) {
          await gate.promise;
        }
        return items.map(item => item * 10);
      },
    });
    const first = [batcher.add(1), batcher.add(2)];
    await new Promise(resolve => setImmediate(resolve));
    const second = [batcher.add(3), batcher.add(4)];
    gate.resolve();
    expect(await Promise.all([...first, ...second])).toEqual([10, 20, 30, 40]);
    expect(batches).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  it('fails one item alone', async () => {
    const batcher = makeBatcher<number, number>({
      flush: items => {
        if (items.length > 1 && items.includes(13)) {
          return Promise.reject(new Error('the batch failed'));
        }
        return items[0] === 13
          ? Promise.reject(new Error('thirteen'))
          : Promise.resolve(items.map(item => (item === 7 ? new Error('seven') : item)));
      },
    });
    const results = await Promise.allSettled([1, 13, 7, 2].map(item => batcher.add(item)));
    expect(results.map(result => (result.status === 'fulfilled' ? result.value : (result.reason as Error).message))).toEqual([
      1,
      'thirteen',
      'seven',
      2,
    ]);
  });

  it('keeps items with one key apart and in order, and large batches bounded', async () => {
    const batches: string[][] = [];
    const batcher = makeBatcher<string, string>({
      max: 2,
      key: item => item[0],
      flush: items => {
        batches.push([...items]);
        return Promise.resolve(items);
      },
    });
    await Promise.all(['a1', 'a2', 'b1', 'c1', 'a3'].map(item => batcher.add(item)));
    expect(batches).toEqual([['a1', 'b1'], ['a2', 'c1'], ['a3']]);
    await batcher.drain();
    expect(batcher.size).toBe(0);
  });

  describe('that lingers after batches of at least three', () => {
    const turn = () => new Promise(resolve => setImmediate(resolve));
    const start = () => {
      const batches: number[][] = [];
      const timers: { resume: () => void; canceled: boolean }[] = [];
      const batcher = makeBatcher<number, number>({
        flush: items => {
          batches.push([...items]);
          return Promise.resolve(items);
        },
        linger: {
          from: 3,
          wait: resume => {
            const timer = { resume, canceled: false };
            timers.push(timer);
            return { cancel: () => (timer.canceled = true) };
          },
        },
      });
      return { batches, timers, batcher };
    };

    it('waits for as many as were in the last one', async () => {
      const { batches, timers, batcher } = start();
      await Promise.all([1, 2, 3].map(batcher.add));
      const next = [4, 5].map(batcher.add);
      await turn();
      expect(batches).toEqual([[1, 2, 3]]);
      await Promise.all([...next, batcher.add(6)]);
      expect(batches).toEqual([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      expect(timers[0]?.canceled).toBe(true);
    });

    it('does not wait for them longer than it was told', async () => {
      const { batches, timers, batcher } = start();
      await Promise.all([1, 2, 3].map(batcher.add));
      const next = batcher.add(4);
      await turn();
      expect(batches).toHaveLength(1);
      timers[0]?.resume();
      await next;
      expect(batches).toEqual([[1, 2, 3], [4]]);
      await batcher.add(5); // after a small batch at once
      expect(batches).toEqual([[1, 2, 3], [4], [5]]);
      expect(timers).toHaveLength(1);
    });

    it('is drained when nothing comes', async () => {
      const { timers, batcher } = start();
      await Promise.all([1, 2, 3].map(batcher.add));
      await batcher.drain();
      timers[0]?.resume();
      await turn();
      expect(batcher.size).toBe(0);
      const late = batcher.add(4);
      const drained = batcher.drain();
      await late;
      await drained;
    });
  });
});

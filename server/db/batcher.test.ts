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

  it('takes what is chosen of those who wait, without changing the order of one key', async () => {
    const batches: string[][] = [];
    const letters = ['b', 'a', 'b'];
    const batcher = makeBatcher<string, string>({
      key: item => item[1],
      choose: () => {
        const letter = letters.shift();
        return letter === undefined ? undefined : item => item.startsWith(letter);
      },
      flush: items => {
        batches.push([...items]);
        return Promise.resolve(items);
      },
    });
    await Promise.all(['a1', 'b1', 'b2', 'a3'].map(item => batcher.add(item)));
    expect(batches).toEqual([['b2'], ['a1', 'a3'], ['b1']]);
  });

  describe('that gathers', () => {
    const turns = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        await new Promise(resolve => setImmediate(resolve));
      }
    };
    const gathering = (others = { waiting: 0, answered: 0 }, isReady = (_items: readonly string[]) => false) => {
      const batches: string[][] = [];
      const batcher = makeBatcher<string, string>({
        gather: { turns: 4, others: () => others, isReady },
        flush: items => {
          batches.push([...items]);
          return Promise.resolve(items);
        },
      });
      return { batcher, batches };
    };

    it('waits for callers who were just answered, up to so many turns after each other', async () => {
      const { batcher, batches } = gathering();
      const caller = async (name: string, pause: number): Promise<void> => {
        await batcher.add(`${name}1`);
        await turns(pause);
        await batcher.add(`${name}2`);
      };
      await Promise.all([caller('a', 0), caller('b', 3), caller('c', 6), caller('d', 40)]);
      expect(batches).toEqual([['a1', 'b1', 'c1', 'd1'], ['a2', 'b2', 'c2'], ['d2']]);
    });

    it('waits no longer when all have come, and not for one or two', async () => {
      const { batcher, batches } = gathering();
      await Promise.all(['a', 'b', 'c'].map(name => batcher.add(name)));
      await turns(1);
      const all = ['d', 'e', 'f'].map(name => batcher.add(name));
      await turns(1);
      expect(batches).toEqual([
        ['a', 'b', 'c'],
        ['d', 'e', 'f'],
      ]);
      await Promise.all(all);
      await turns(10);
      await Promise.all(['g', 'h'].map(name => batcher.add(name)));
      const last = batcher.add('i');
      await turns(1);
      expect(batches.slice(2)).toEqual([['g', 'h'], ['i']]);
      await last;
    });

    it('waits for nobody when those who wait already are ready', async () => {
      const { batcher, batches } = gathering(undefined, items => items.includes('d'));
      const first = ['a', 'b', 'c'].map(name => batcher.add(name));
      const next = first[0]?.then(() => batcher.add('d'));
      await turns(2);
      expect(batches).toEqual([['a', 'b', 'c'], ['d']]);
      await next;
    });

    it('counts callers without an item of their own', async () => {
      const others = { waiting: 0, answered: 2 };
      const { batcher, batches } = gathering(others);
      await Promise.all(['a', 'b'].map(name => batcher.add(name)));
      const all = ['c', 'd'].map(name => batcher.add(name));
      await turns(1);
      expect(batches).toEqual([['a', 'b']]);
      others.waiting = 2;
      await turns(1);
      expect(batches).toEqual([
        ['a', 'b'],
        ['c', 'd'],
      ]);
      await Promise.all(all);
    });
  });
});

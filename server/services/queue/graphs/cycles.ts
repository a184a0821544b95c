/** Circles in a graph: tasks that would wait for each other for ever. */

/**
 * Groups of two or more nodes that can reach each other; `edges[i]` are the nodes to which `i` points. A node that points to itself is none. Tarjan's
 * algorithm without recursion: a chain of 10,000 tasks is as deep.
 */
export const findCycles = (edges: readonly (readonly number[])[]): number[][] => {
  const order = new Int32Array(edges.length).fill(-1);
  const low = new Int32Array(edges.length);
  const next = new Int32Array(edges.length);
  const isOpen = new Uint8Array(edges.length);
  const open: number[] = [];
  const cycles: number[][] = [];
  let count = 0;
  for (let root = 0; root < edges.length; root++) {
    const path = order[root] === -1 ? [root] : [];
    while (path.length > 0) {
      const node = path.at(-1) as number;
      if (order[node] === -1) {
        order[node] = low[node] = count++;
        isOpen[node] = 1;
        open.push(node);
      }
      const target = (edges[node] as readonly number[])[next[node] as number];
      if (target !== undefined) {
        next[node] = (next[node] as number) + 1;
        if (order[target] === -1) {
          path.push(target);
        } else if (isOpen[target] === 1) {
          low[node] = Math.min(low[node] as number, order[target] as number);
        }
        continue;
      }
      path.pop();
      const parent = path.at(-1);
      if (parent !== undefined) {
        low[parent] = Math.min(low[parent] as number, low[node] as number);
      }
      if (low[node] === order[node]) {
        const members = open.splice(open.lastIndexOf(node));
        members.forEach(member => (isOpen[member] = 0));
        if (members.length > 1) {
          cycles.push(members);
        }
      }
    }
  }
  return cycles;
};

/** A way round within such a group: nodes in the order in which each points to the next, and the last to the first. As short as breadth finds it. */
export const wayRound = (edges: readonly (readonly number[])[], members: readonly number[]): number[] => {
  const [start] = members as [number];
  const inside = new Set(members);
  const from = new Map<number, number>();
  const line = [start];
  for (let node = line.shift(); node !== undefined; node = line.shift()) {
    for (const target of edges[node] as readonly number[]) {
      if (target === start && node !== start) {
        const way = [node];
        while (way[0] !== start) {
          way.unshift(from.get(way[0] as number) as number);
        }
        return way;
      }
      if (target !== start && inside.has(target) && !from.has(target)) {
        from.set(target, node);
        line.push(target);
      }
    }
  }
  return [...members];
};

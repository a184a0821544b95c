/**
 * Who wants which event: the patterns of all listeners in one tree of words per exchange, as a topic exchange of a broker keeps them. Finding the
 * listeners of an event takes as many steps as its key has words, times the few branches (`*`, `#`, the word itself) that are possible at each, however
 * many listeners there are; no pattern can make it take exponentially long, because a place in the tree is visited once per word.
 */

interface Node<T> {
  readonly words: Map<string, Node<T>>;
  star: Node<T> | undefined;
  hash: Node<T> | undefined;
  readonly isHash: boolean;
  readonly values: Set<T>;
}

export interface TopicBinding {
  readonly exchange: string;
  readonly pattern: string;
}

const makeNode = <T>(isHash = false): Node<T> => ({ words: new Map(), star: undefined, hash: undefined, isHash, values: new Set() });

const isEmpty = ({ words, star, hash, values }: Node<unknown>): boolean => words.size === 0 && !star && !hash && values.size === 0;

/** A `#` takes no word or any number of them: whoever is before it is behind it too. */
const enter = <T>(node: Node<T>, active: Set<Node<T>>): void => {
  active.add(node);
  if (node.hash) {
    enter(node.hash, active);
  }
};

export class TopicIndex<T> {
  readonly #roots = new Map<string, Node<T>>();

  /** The exchanges that somebody listens to. */
  get exchanges(): Iterable<string> {
    return this.#roots.keys();
  }

  add({ exchange, pattern }: TopicBinding, value: T): void {
    let node = this.#roots.get(exchange);
    if (!node) {
      node = makeNode();
      this.#roots.set(exchange, node);
    }
    for (const word of pattern.split('.')) {
      if (word === '#') {
        node = node.hash ??= makeNode(true);
      } else if (word === '*') {
        node = node.star ??= makeNode();
      } else {
        let next: Node<T> | undefined = node.words.get(word);
        if (!next) {
          next = makeNode();
          node.words.set(word, next);
        }
        node = next;
      }
    }
    node.values.add(value);
  }

  /** Takes out what `add` put in; nothing when it is not there. */
  delete({ exchange, pattern }: TopicBinding, value: T): void {
    const root = this.#roots.get(exchange);
    if (root) {
      this.#delete(root, pattern.split('.'), 0, value);
      if (isEmpty(root)) {
        this.#roots.delete(exchange);
      }
    }
  }

  #delete(node: Node<T>, words: readonly string[], at: number, value: T): void {
    const word = words[at];
    if (word === undefined) {
      node.values.delete(value);
      return;
    }
    const next = word === '#' ? node.hash : word === '*' ? node.star : node.words.get(word);
    if (!next) {
      return;
    }
    this.#delete(next, words, at + 1, value);
    if (isEmpty(next)) {
      if (word === '#') {
        node.hash = undefined;
      } else if (word === '*') {
        node.star = undefined;
      } else {
        node.words.delete(word);
      }
    }
  }

  /** Who has a binding that one of the keys matches; each once. */
  match(exchange: string, routingKey: string, cc: readonly string[]): Set<T> {
    const found = new Set<T>();
    const root = this.#roots.get(exchange);
    if (root) {
      collect(root, routingKey, found);
      for (const key of cc) {
        collect(root, key, found);
      }
    }
    return found;
  }
}

const collect = <T>(root: Node<T>, key: string, found: Set<T>): void => {
  let active = new Set<Node<T>>();
  enter(root, active);
  for (const word of key.split('.')) {
    const next = new Set<Node<T>>();
    for (const node of active) {
      if (node.isHash) {
        enter(node, next);
      }
      const named = node.words.get(word);
      if (named) {
        enter(named, next);
      }
      if (node.star) {
        enter(node.star, next);
      }
    }
    active = next;
  }
  for (const { values } of active) {
    for (const value of values) {
      found.add(value);
    }
  }
};

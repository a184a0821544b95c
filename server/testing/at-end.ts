/** What a test file has opened, in its tests and hooks too, and must close. */
import { afterAll } from 'vitest';

// a test file has its own copy of this module, so these are the file's; vitest forgets an `afterAll` that is called while tests run
const ends: (() => Promise<void> | void)[] = [];
afterAll(async () => {
  for (const end of ends.splice(0).reverse()) {
    await end();
  }
});

/** Does it after the file's last test; what came last goes first. */
export const atEnd = (end: () => Promise<void> | void): void => void ends.push(end);

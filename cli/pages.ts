/** Lists come in pages. */

interface Page {
  readonly continuationToken?: string | undefined;
}

/** The pages of a list, one after another, as they are wanted. */
export async function* pagesOf<P extends Page>(read: (query: { continuationToken?: string }) => Promise<P>): AsyncGenerator<P> {
  let query: { continuationToken?: string } = {};
  for (;;) {
    const page = await read(query);
    yield page;
    if (page.continuationToken === undefined) {
      return;
    }
    query = { continuationToken: page.continuationToken };
  }
}

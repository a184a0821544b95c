/** A service's API as a page for people, from its declarations. */
import type { Api, Exchanges, Method } from '@tscluster/api/define.ts';

const schemaLink = (api: Pick<Api, 'service'>, schema: unknown): string => {
  const id = (schema as { $id?: string }).$id?.replace(/#$/, '') ?? '';
  return `\`${id.replace(`/schemas/${api.service}/`, '')}\``;
};

const scopes = (template: unknown): string =>
  template === undefined
    ? 'none: anybody may call it'
    : typeof template === 'string'
      ? `\`${template}\``
      : `\`${JSON.stringify(template)}\``;

const describeMethod = (api: Api, name: string, method: Method): string => {
  const facts = [
    ['Scopes', scopes(method.scopes)],
    ...(method.query
      ? [
          [
            'Query',
            Object.keys(method.query)
              .map(key => `\`${key}\``)
              .join(', '),
          ],
        ]
      : []),
    ...(method.input ? [['Body', schemaLink(api, method.input)]] : []),
    ...(method.output === undefined ? [] : [['Answer', method.output === 'blob' ? 'bytes or a redirect' : schemaLink(api, method.output)]]),
    ...(method.stability === 'stable' ? [] : [['Stability', method.stability]]),
  ];
  return `### ${name}\n\n\`${method.method.toUpperCase()} /api/${api.service}/${api.version}${method.route}\`\n\n${method.description.trim()}\n\n${facts.map(([key, value]) => `* ${key}: ${value}`).join('\n')}\n`;
};

/** The page as Markdown: methods by category in the order of their declaration, then the exchanges. */
export const describeApiPage = (api: Api, exchanges: Exchanges | undefined): string => {
  const categories = new Map<string, string[]>();
  for (const [name, method] of Object.entries(api.methods)) {
    if (method.published !== false) {
      categories.set(method.category, [...(categories.get(method.category) ?? []), describeMethod(api, name, method)]);
    }
  }
  const sections = [...categories].map(([category, methods]) => `## ${category}\n\n${methods.join('\n')}`);
  if (exchanges) {
    const rows = Object.values(exchanges.exchanges).map(
      ({ exchange, routingKey, description, schema }) =>
        `### ${exchange}\n\n\`exchange/taskcluster-${exchanges.service}/${exchanges.version}/${exchange}\`\n\n${description.trim()}\n\n* Routing key: \`${routingKey.map(field => field.constant ?? `<${field.name}>`).join('.')}\`\n* Message: ${schemaLink(api, schema)}\n`,
    );
    sections.push(`## Exchanges\n\n${rows.join('\n')}`);
  }
  return `# ${api.title}\n\n${api.description.trim()}\n\nSchemas are served at \`/schemas/${api.service}/\`. Written by \`npm run gen\` from the declarations in \`api/${api.service}\`.\n\n${sections.join('\n')}`;
};

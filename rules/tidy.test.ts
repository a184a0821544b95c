/** Rules about the whole repository that no compiler or linter checks. Each failure names the file and the line. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { missingEntries } from '../scripts/complete-lock.mjs';

const ROOT = path.join(import.meta.dirname, '..');

const files = execFileSync('git', ['-c', `safe.directory=${ROOT}`, 'ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter(file => file !== '' && existsSync(path.join(ROOT, file)));

const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const PACKAGES = ['api', 'client', 'server', 'worker', 'cli'] as const;
const isTest = (file: string): boolean => /(\.(test|e2e|bench|conformance)|\/testing)\.ts$/.test(file) || file.includes('/testing/');
const code = files.filter(file => /\.(ts|mjs)$/.test(file));
const packaged = code.filter(file => PACKAGES.some(name => file.startsWith(`${name}/`)));
const shipped = packaged.filter(file => !isTest(file));

/** `file:line: what` for each match outside comments. */
const findInCode = (among: readonly string[], pattern: RegExp): string[] =>
  among.flatMap(file =>
    read(file)
      .split('\n')
      .flatMap((line, index) => {
        const match = /^\s*(\*|\/\/|\/\*)/.test(line) ? null : pattern.exec(line.replace(/\s\/\/ .*$/, ''));
        return match ? [`${file}:${index + 1}: ${match[0].trim()}`] : [];
      }),
  );

interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
}

const imports: Import[] = packaged.flatMap(file =>
  [...read(file).matchAll(/^(?:import|export)\s(?:[^'";]*?\sfrom\s+)?'([^']+)';|\bimport\('([^']+)'\)/gm)].map(match => ({
    file,
    line: read(file).slice(0, match.index).split('\n').length,
    specifier: (match[1] ?? match[2]) as string,
  })),
);

/** The file in this repository that an import means; undefined for packages of others. */
const targetOf = ({ file, specifier }: Import): string | undefined => {
  if (specifier.startsWith('.')) {
    return path.posix.join(path.posix.dirname(file), specifier);
  }
  return specifier.startsWith('@tscluster/') ? specifier.slice('@tscluster/'.length) : undefined;
};

/** The part of the house that a file belongs to, as far as the import table tells them apart. */
const partOf = (file: string): string => {
  const [top = '', second = '', third = ''] = file.split('/');
  if (top !== 'server') {
    return top;
  }
  if (second === 'services') {
    return third.endsWith('.ts') ? 'server/main' : `server/services/${third}`;
  }
  return second === 'main.ts' ? 'server/main' : `server/${second}`;
};

const ANYTHING = /./;
const MAY_IMPORT: readonly { readonly part: RegExp; readonly from: RegExp }[] = [
  { part: /^api$/, from: /^api$/ },
  { part: /^client$/, from: /^(api|client)$/ },
  { part: /^worker$/, from: /^(api|client|worker)$/ },
  { part: /^server\/db$/, from: /^(client|server\/db)$/ }, // of the client only its clock
  { part: /^server\/platform$/, from: /^(api|client|server\/(db|platform))$/ },
  { part: /^server\/services\//, from: /^(api|client|server\/(db|platform))$/ }, // and itself
  { part: /^(server\/main|server\/local|server\/serve|server\/testing|cli)$/, from: ANYTHING },
];

describe('imports', () => {
  test('follow the table', () => {
    const wrong = imports
      .filter(each => !isTest(each.file))
      .flatMap(each => {
        const target = targetOf(each);
        if (target === undefined) {
          return [];
        }
        const [part, other] = [partOf(each.file), partOf(target)];
        const row = MAY_IMPORT.find(candidate => candidate.part.test(part));
        return part === other || row?.from.test(other) ? [] : [`${each.file}:${each.line}: ${part} may not import ${other}`];
      });
    expect(wrong).toEqual([]);
  });

  test('of other packages name them, and within a package are relative', () => {
    const wrong = imports.flatMap(each => {
      const target = targetOf(each);
      const own = each.file.split('/')[0];
      const crosses = target !== undefined && target.split('/')[0] !== own;
      const isRelative = each.specifier.startsWith('.');
      // the program of the command line finds the bootstrap before anything is installed
      const isBootstrap = target === 'scripts/bootstrap.mjs';
      return target === undefined || crosses !== isRelative || isBootstrap ? [] : [`${each.file}:${each.line}: ${each.specifier}`];
    });
    expect(wrong).toEqual([]);
  });

  test('name files that exist', () => {
    const wrong = imports.flatMap(each => {
      const target = targetOf(each);
      return target === undefined || existsSync(path.join(ROOT, target)) ? [] : [`${each.file}:${each.line}: ${each.specifier}`];
    });
    expect(wrong).toEqual([]);
  });

  test('of foreign packages are declared where they are used', () => {
    const declared = new Map(
      ['.', ...PACKAGES].map(name => {
        const { dependencies = {}, devDependencies = {} } = JSON.parse(read(path.join(name, 'package.json'))) as Record<
          string,
          Record<string, string>
        >;
        return [name, { dependencies, devDependencies }] as const;
      }),
    );
    const wrong = imports.flatMap(each => {
      if (each.specifier.startsWith('.') || each.specifier.startsWith('node:')) {
        return [];
      }
      const name = each.specifier
        .split('/')
        .slice(0, each.specifier.startsWith('@') ? 2 : 1)
        .join('/');
      const own = declared.get(each.file.split('/')[0] as 'api');
      const root = declared.get('.');
      const isDeclared =
        own?.dependencies[name] !== undefined ||
        (isTest(each.file) && (own?.devDependencies[name] ?? root?.devDependencies[name]) !== undefined) ||
        name === `@tscluster/${each.file.split('/')[0]}`;
      return isDeclared ? [] : [`${each.file}:${each.line}: ${name} is not among the dependencies of ${each.file.split('/')[0]}`];
    });
    expect(wrong).toEqual([]);
  });

  test('go to files, not to barrels', () => {
    expect(code.filter(file => path.basename(file) === 'index.ts')).toEqual([]);
  });
});

describe('time and randomness', () => {
  const injected = shipped.filter(file => !file.startsWith('server/platform/') && file !== 'client/clock.ts');

  test('are injected', () => {
    const pattern =
      /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|(?<![.\w])set(Timeout|Interval)\(|\bcrypto\.random\w+\(|\bgetRandomValues\(|\brandom(Bytes|UUID|Int|FillSync)\(|\bperformance\.now\(|node:timers/;
    expect(findInCode(injected, pattern)).toEqual([]);
  });

  test('do not come from SQL', () => {
    const sources = [...shipped.filter(file => file.startsWith('server/')), ...files.filter(file => file.endsWith('.sql'))];
    expect(
      findInCode(
        sources,
        /(?<![\w.])(now\(\)|current_timestamp|clock_timestamp\(\)|random\(\)|gen_random_uuid\(\)|uuidv7\(\))(?!\s*[:{=])/i,
      ).filter(hit => !/clock\.now|random\(\) \{/.test(hit)),
    ).toEqual([]);
  });
});

describe('files', () => {
  test('are short enough to be read', () => {
    const long = code
      .map(file => ({ file, lines: read(file).split('\n').length }))
      .filter(({ file, lines }) => lines > (isTest(file) ? 800 : 600));
    expect(long).toEqual([]);
  });

  test('are named in kebab case', () => {
    expect(packaged.filter(file => !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9-]+)*$/.test(path.basename(file)))).toEqual([]);
  });

  test('do not point outside the repository, or at work that no issue names', () => {
    const texts = files.filter(
      file => /\.(ts|mjs|md|yml|yaml|json|sql|sh)$/.test(file) && file !== 'rules/tidy.test.ts' && !file.includes('/vectors/'),
    );
    const pattern = /(\.\.\/)+shared\/|(?<![\w.-])\/work\/|\bTODO\b(?!\(#\d+\))|\bFIXME\b|\bXXX\b/;
    const hits = texts.flatMap(file =>
      read(file)
        .split('\n')
        .flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim().slice(0, 120)}`] : [])),
    );
    expect(hits).toEqual([]);
  });

  test('of migrations begin with their reason', () => {
    const migrations = files.filter(file => /^server\/db\/migrations\/.*\.sql$/.test(file));
    expect(migrations.length).toBeGreaterThan(0);
    expect(migrations.filter(file => !/^-- \w/.test(read(file)))).toEqual([]);
  });
});

describe('the lock file', () => {
  const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, { resolved?: string }> };

  test('names no registry', () => {
    expect(Object.entries(lock.packages).filter(([, { resolved }]) => resolved !== undefined && /^\w+:\/\//.test(resolved))).toEqual([]);
  });

  test('has the packages of every platform (else: node scripts/complete-lock.mjs)', () => {
    expect(missingEntries(lock)).toEqual({});
  });
});

describe('documents', () => {
  const documents = files.filter(file => file.endsWith('.md'));

  test('link to what exists', () => {
    const broken = documents.flatMap(file =>
      [
        ...read(file)
          .replace(/```[\s\S]*?```/g, '')
          .matchAll(/\]\(([^)\s]+)\)/g),
      ].flatMap(([, link = '']) => {
        const target = link.split('#')[0] ?? '';
        return target === '' || /^\w+:/.test(target) || existsSync(path.join(ROOT, path.dirname(file), decodeURI(target)))
          ? []
          : [`${file}: ${link}`];
      }),
    );
    expect(broken).toEqual([]);
  });

  test('name commands that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const known = new Set([...Object.keys(scripts), 'ci', 'install', 'config', 'exec']);
    const unknown = documents.flatMap(file =>
      [...read(file).matchAll(/`npm (?:run )?([a-z][\w:-]*)/g)].flatMap(([text, name = '']) =>
        known.has(name) ? [] : [`${file}: ${text}`],
      ),
    );
    expect(unknown).toEqual([]);
  });
});

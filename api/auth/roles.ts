/** Roles: scopes under a name. Whoever has `assume:<roleId>` has the scopes of the role. */
import { methods } from '../define.ts';
import { dateTime, object, optional, ref, schema, set, string, type TypeOf } from '../schema.ts';
import { PRINTABLE_PATTERN, continuationToken, paging, param, scopeList, scopeSet } from '../types.ts';

const description = string({ maxLength: 10_240, description: 'What the role is for, in Markdown.' });

export const createRoleRequest = schema(
  'auth',
  'create-role-request',
  { title: 'Create Role Request' },
  object({
    scopes: scopeSet({
      description:
        'What those who assume the role may do. In a role whose id ends with `*`, `<..>` stands for what the caller has in place of the star.',
    }),
    description,
  }),
);

export const getRoleResponse = schema(
  'auth',
  'get-role-response',
  { title: 'Get Role Response' },
  object({
    roleId: string({ pattern: PRINTABLE_PATTERN, description: 'The role.' }),
    scopes: scopeList({ description: 'The scopes the role was given.' }),
    description,
    created: dateTime({ description: 'When the role was created.' }),
    lastModified: dateTime({ description: 'When it was last changed.' }),
    expandedScopes: scopeSet({ description: 'All it gives, with the scopes of the roles it assumes.' }),
  }),
);
export type RoleInfo = TypeOf<typeof getRoleResponse>;

export const listRolesResponse = schema('auth', 'list-roles-response', { title: 'List Roles Response' }, set(ref(getRoleResponse)));
export const listRoles2Response = schema(
  'auth',
  'list-roles2-response',
  { title: 'List Roles Response, in Pages' },
  object({ roles: set(ref(getRoleResponse)), continuationToken: optional(continuationToken()) }),
);
export const listRoleIdsResponse = schema(
  'auth',
  'list-role-ids-response',
  { title: 'List Role Ids Response' },
  object({ roleIds: set(string()), continuationToken: optional(continuationToken()) }),
);

const common = { category: 'Roles', stability: 'stable' } as const;
const ofRole = { params: { roleId: param.printable } } as const;

export const roleMethods = methods({
  listRoles: {
    ...common,
    method: 'get',
    route: '/roles/',
    title: 'List Roles',
    description: 'All roles in one answer. In a large deployment use `listRoles2`.',
    scopes: 'auth:list-roles',
    output: listRolesResponse,
  },
  listRoles2: {
    ...common,
    method: 'get',
    route: '/roles2/',
    query: paging,
    title: 'List Roles in Pages',
    description: 'All roles, ordered by id; in pages when a `limit` is given.',
    scopes: 'auth:list-roles',
    output: listRoles2Response,
  },
  listRoleIds: {
    ...common,
    method: 'get',
    route: '/roleids/',
    query: paging,
    title: 'List Role IDs',
    description: 'The ids of all roles, in order; in pages when a `limit` is given.',
    scopes: 'auth:list-roles',
    output: listRoleIdsResponse,
  },
  role: {
    ...common,
    ...ofRole,
    method: 'get',
    route: '/roles/<roleId>',
    title: 'Get Role',
    description: 'One role with the scopes it was given and all that they amount to.',
    scopes: 'auth:get-role:<roleId>',
    output: getRoleResponse,
  },
  createRole: {
    ...common,
    ...ofRole,
    method: 'put',
    route: '/roles/<roleId>',
    title: 'Create Role',
    description: [
      'Creates a role. The caller needs every scope that it gives to the role.',
      '',
      'An id that ends with `*` makes a pattern: the role applies to every `assume:` scope that begins so. Roles must not lead back to themselves; such a role is refused as `InputError`.',
      '',
      'Repeating the call with the same values is harmless; an existing role with other values is refused as `RequestConflict`.',
    ].join('\n'),
    scopes: { AllOf: ['auth:create-role:<roleId>', { for: 'scope', in: 'scopes', each: '<scope>' }] },
    input: createRoleRequest,
    output: getRoleResponse,
  },
  updateRole: {
    ...common,
    ...ofRole,
    method: 'post',
    route: '/roles/<roleId>',
    title: 'Update Role',
    description:
      'Replaces scopes and description of a role. The caller needs the scopes that the role did not already give; removing needs none. Everybody who assumes the role is affected at once.',
    scopes: { AllOf: ['auth:update-role:<roleId>', { for: 'scope', in: 'scopesAdded', each: '<scope>' }] },
    input: createRoleRequest,
    output: getRoleResponse,
  },
  deleteRole: {
    ...common,
    ...ofRole,
    method: 'delete',
    route: '/roles/<roleId>',
    title: 'Delete Role',
    description: 'Deletes a role. Succeeds also when there is none.',
    scopes: 'auth:delete-role:<roleId>',
  },
});

/** Checks of the arguments that connections are added with. */
import { wrongType } from '../base/errors.js';
import { knownOptions, optionsObject } from '../base/options.js';
import type { GivenMetadata, MetadataInput } from './metadata.js';

/** Longest id and user id, in UTF-16 units. @internal */
export const ID_MAX = 1024;
const METADATA = ['userAgent', 'sessionId', 'customData'] as const;

/** Returns `userId` if it is one. @throws ERR_INVALID_ARG_TYPE @internal */
export function checkedUser(userId: unknown): string {
  if (typeof userId !== 'string' || userId.length === 0 || userId.length > ID_MAX)
    throw wrongType('userId', userId, `a string of 1 to ${ID_MAX} characters`);
  return userId;
}

/** Returns `userId`, with `undefined` for an empty one. @throws ERR_INVALID_ARG_TYPE @internal */
export function checkedOptionalUser(userId: string | undefined): string | undefined {
  return userId === undefined || userId === '' ? undefined : checkedUser(userId);
}

/** Checks what a seat is taken for; returns `userId` as `checkedOptionalUser` does. @throws ERR_INVALID_ARG_TYPE @internal */
export function checkedClient(ip: unknown, userId: string | undefined): string | undefined {
  const user = checkedOptionalUser(userId);
  if (typeof ip !== 'string') throw wrongType('ip', ip, 'a string');
  return user;
}

/**
 * Checks what a connection is opened with, before its seat is taken; returns the metadata as `checkedMetadata` does.
 * @throws ERR_INVALID_ARG_TYPE, naming the argument; ERR_UNKNOWN_OPTION for another member of the metadata
 * @internal
 */
export function checkedConnection(
  id: unknown,
  socket: unknown,
  metadata: unknown,
): GivenMetadata | undefined {
  if (typeof id !== 'string' || id.length === 0 || id.length > ID_MAX)
    throw wrongType('id', id, `a string of 1 to ${ID_MAX} characters`);
  if (
    typeof socket !== 'object' ||
    socket === null ||
    typeof (socket as { readonly close?: unknown }).close !== 'function'
  )
    throw wrongType('socket', socket, 'an object with a close() method');
  return checkedMetadata(metadata);
}

/**
 * Returns metadata in the form that a connection keeps: a copy, and a user agent alone as its text. Each member is read
 * once, since it may be a getter of the application's that throws.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION, naming the member
 */
function checkedMetadata(given: unknown): GivenMetadata | undefined {
  if (given === undefined) return undefined;
  optionsObject('metadata', given);
  knownOptions('metadata', given, METADATA, 'metadata.');
  const { userAgent, sessionId, customData } = given as MetadataInput;
  checkText('metadata.userAgent', userAgent);
  checkText('metadata.sessionId', sessionId);
  if (customData !== undefined && (typeof customData !== 'object' || customData === null))
    throw wrongType('metadata.customData', customData, 'an object');
  if (typeof sessionId !== 'string' && customData === undefined) return userAgent ?? undefined;
  return { userAgent, sessionId, customData };
}

function checkText(field: string, value: unknown): void {
  if (value !== undefined && value !== null && typeof value !== 'string')
    throw wrongType(field, value, 'a string');
}

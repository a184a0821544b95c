/** Settings of the blobs in the local folder, for those who hand out their URLs and those who serve them. */
import { flag, integer, text } from '../config.ts';

export const blobUrlSettings = {
  objectsOrigin: text(
    'OBJECTS_ORIGIN',
    'where the bytes of objects and artifacts are served, a URL without path; one of their own keeps them apart from the user interface (default: the root URL)',
    { fallback: undefined },
  ),
  signPublicArtifactUrls: flag(
    'SIGN_PUBLIC_ARTIFACT_URLS',
    'URLs of public artifacts end after 30 minutes, like those of private ones, instead of working for everybody who knows them',
    { fallback: false },
  ),
};

const GIB = 1024 ** 3;

export const blobFolderSettings = {
  objectsFolder: text('OBJECTS_FOLDER', 'folder for the bytes of objects and artifacts', { fallback: undefined }),
  maxBytes: integer('OBJECTS_MAX_BYTES', 'the largest object or artifact that is accepted, in bytes', { fallback: 100 * GIB, min: 1 }),
};

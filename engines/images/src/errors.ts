import { errorsOf } from "@skep/base";

export const imageErrors = {
  IMAGE_NOT_FOUND: {
    message: 'image "{ref}" does not exist{where}',
    hint: "see: skep image ls; get it with: skep image pull {ref}, or: skep image build {ref}",
    status: 404,
  },
  IMAGE_AMBIGUOUS: {
    message: '"{ref}" fits several images: {matches}',
    hint: "write more of the digest, or say which architecture (--arch)",
    status: 409,
  },
  IMAGE_IN_USE: {
    message: 'cannot remove image "{name}": it is the base of {machines}',
    hint: "remove them first: skep rm NAME",
    status: 409,
  },
  IMAGE_DAMAGED: {
    message: 'image "{name}" is damaged: {why}',
    hint: "remove it (skep image rm {name}) and pull or build it again",
    status: 500,
  },
  RECIPE_INVALID: {
    message: "recipe is not valid: {why}",
    hint: "docs/recipe.yaml shows every field",
    status: 400,
  },
  RECIPE_UNKNOWN: {
    message: 'there is no built-in recipe "{name}"',
    hint: "built in: {known}; an own recipe is given as a file: skep image build -f recipe.yaml",
    status: 404,
  },
  ARCH_UNSUPPORTED: {
    message: 'recipe "{name}" is not made for {arch}',
    hint: "its architectures: {known}",
    status: 400,
  },
  SOURCE_INVALID: {
    message: "apt source is not valid: {why}",
    hint: "give deb lines, deb822 stanzas, or: SUITE MIRROR-URL",
    status: 400,
  },
  SOURCE_MISSING: {
    message: "this host has no apt source of {distribution} {suite}",
    hint: "name one: skep image build {name} --source 'deb [signed-by=KEYRING] URL {suite} main'",
    status: 503,
  },
  KEYRING_MISSING: {
    message: "the keyring {path}, which signs {distribution}, is not there",
    hint: "install it: apt-get install {package}",
    status: 503,
  },
  BUILD_TOOL_MISSING: {
    message: "cannot build images: {tools} missing",
    hint: "install: apt-get install {packages}",
    status: 503,
  },
  BUILD_SUBIDS_MISSING: {
    message: "cannot build images as {user}: {file} gives the user no range of ids",
    hint: "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
    status: 503,
  },
  BUILD_NAMESPACES: {
    message: "cannot build images as {user}: this kernel grants no user namespaces ({why})",
    hint: "as root: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000, or build as root",
    status: 503,
  },
  BUILD_EMULATION: {
    message: "cannot build for {arch} on this host: {why}",
    hint: "{hint}",
    status: 503,
  },
  BUILD_FAILED: {
    message: 'building "{name}" failed in {phase}: {why}',
    hint: "the whole log: {log}",
    status: 500,
  },
  CATALOG_INVALID: {
    message: "{path} is not a catalog: {why}",
    hint: "engines/images/assets/catalog.yaml shows the form",
    status: 400,
  },
  CATALOG_UNKNOWN: {
    message: 'the catalog has no image "{name}" for {arch}',
    hint: "see: skep image ls --catalog; any disk can be pulled by its URL (with --sha256)",
    status: 404,
  },
  URL_INVALID: {
    message: 'cannot pull "{url}": {why}',
    hint: "give an http or https URL of a qcow2 or raw disk",
    status: 400,
  },
  OFFLINE: {
    message: "cannot reach {host}: {why}",
    hint: "check the network or the proxy (HTTPS_PROXY); an image can also be built (skep image build debian-12) or imported (skep image import FILE)",
    status: 503,
  },
  DOWNLOAD_FAILED: {
    message: "downloading {url} failed: {why}",
    hint: "run it again: what has arrived is kept",
    status: 502,
  },
  DOWNLOAD_TOO_LARGE: {
    message: "downloading {url} stopped: it is larger than {limit}",
    hint: "download it yourself and use: skep image import FILE",
    status: 502,
  },
  CHECKSUM_MISMATCH: {
    message: "{what} has {algorithm} {actual}, expected {expected}",
    hint: "nothing was kept; the file was changed on its way, or the checksum is of another version",
    status: 502,
  },
  CHECKSUM_ABSENT: {
    message: "{url} lists no checksum for {file}",
    hint: "pull by URL with a checksum that you trust: skep image pull URL --sha256 HEX",
    status: 502,
  },
  DISK_REFUSED: {
    message: "disk {path} is refused: {why}",
    hint: "{hint}",
    status: 400,
  },
  FILE_UNREADABLE: {
    message: "cannot read {path}: {why}",
    hint: "give the path of a qcow2 or raw disk on the host where skepd runs",
    status: 400,
  },
} as const;

export const fail = errorsOf(imageErrors);

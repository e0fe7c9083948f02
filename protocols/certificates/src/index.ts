export {
  authorityCertificate,
  authorityPath,
  fingerprintOf,
  hostNames,
  type IdentityRequest,
  type Names,
  type ServerIdentity,
  serverIdentity,
} from "./identity.ts";
export { keepRenewed } from "./renewal.ts";

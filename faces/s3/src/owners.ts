import type { Service } from "./context.ts";
import { nest, tag } from "./xml.ts";

/** The names of owners, looked up once for each answer. */
export function ownerNames(service: Service): (id: string) => string {
  const names = new Map<string, string>();
  return (id) => {
    let name = names.get(id);
    if (name === undefined) {
      name = nameOf(service, id);
      names.set(id, name);
    }
    return name;
  };
}

/** An account that is gone has no name but its id. */
function nameOf(service: Service, id: string): string {
  try {
    return service.accounts.account(id).name;
  } catch {
    return id;
  }
}

/** `<Owner>` with canonical id and display name; other elements are named so too (`Initiator`). */
export function ownerXml(id: string, name: string, element = "Owner"): string {
  return nest(element, tag("ID", id), tag("DisplayName", name));
}

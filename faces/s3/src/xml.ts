import { XMLParser } from "fast-xml-parser";
import { fail } from "./errors.ts";

const s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/";
const declaration = '<?xml version="1.0" encoding="UTF-8"?>\n';
const maxDepth = 16;

/** An element of a document that was read. Names are without their namespace's prefix. */
export class XmlElement {
  readonly name: string;
  /** As written, with prefix: `xsi:type`. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** Not trimmed. */
  readonly text: string;

  constructor(name: string, attributes: Record<string, string>, children: XmlElement[], text: string) {
    this.name = name;
    this.attributes = attributes;
    this.children = children;
    this.text = text;
  }

  /** The one child of that name; MalformedXML where there are several. */
  child(name: string): XmlElement | undefined {
    let found: XmlElement | undefined;
    for (const child of this.children) {
      if (child.name !== name) continue;
      if (found !== undefined) throw fail("MalformedXML");
      found = child;
    }
    return found;
  }

  all(name: string): XmlElement[] {
    return this.children.filter((child) => child.name === name);
  }

  /** The text of the one child of that name. */
  textOf(name: string): string | undefined {
    return this.child(name)?.text;
  }
}

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: "",
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  processEntities: true,
  htmlEntities: false,
  ignoreDeclaration: true,
  ignorePiTags: true,
  allowBooleanAttributes: false,
});

type ParsedNode = Record<string, unknown>;

/** Reads a document with this root. MalformedXML also for a DOCTYPE: no request of S3 has one. */
export function parseXml(text: string, root: string): XmlElement {
  if (/<!(?!\[CDATA\[|--)/.test(text)) throw fail("MalformedXML");
  let nodes: ParsedNode[];
  try {
    nodes = parser.parse(text, true) as ParsedNode[];
  } catch (error) {
    throw fail("MalformedXML", {}, { cause: error });
  }
  const elements = nodes.filter((node) => !("#text" in node));
  const element = elements.length === 1 ? toElement(elements[0]!, 0) : undefined;
  if (element?.name !== root) throw fail("MalformedXML");
  return element;
}

function toElement(node: ParsedNode, depth: number): XmlElement {
  if (depth > maxDepth) throw fail("MalformedXML");
  let name = "";
  let attributes: Record<string, string> = {};
  let text = "";
  const children: XmlElement[] = [];
  for (const [property, value] of Object.entries(node)) {
    if (property === ":@") {
      attributes = value as Record<string, string>;
      continue;
    }
    name = property.slice(property.indexOf(":") + 1);
    for (const child of value as ParsedNode[]) {
      if ("#text" in child) text += String(child["#text"]);
      else children.push(toElement(child, depth + 1));
    }
  }
  return new XmlElement(name, attributes, children, text);
}

/** Whether XML 1.0 can hold it. */
export function isXmlText(text: string): boolean {
  return !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(text);
}

const special = /[&<>"\r\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/;
const specials = /[&<>"\r\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/**
 * Text as XML. Control characters, which XML 1.0 cannot hold, become character references all the same,
 * as S3 writes them; a client that fears them asks for `encoding-type=url`.
 */
export function escapeXml(text: string): string {
  if (!special.test(text)) return text;
  return text.replace(specials, (character) => {
    if (character === "&") return "&amp;";
    if (character === "<") return "&lt;";
    if (character === ">") return "&gt;";
    if (character === '"') return "&quot;";
    return `&#x${character.charCodeAt(0).toString(16).toUpperCase()};`;
  });
}

/** `<name>text</name>`; nothing where `text` is undefined. */
export function tag(name: string, text: string | number | boolean | undefined): string {
  if (text === undefined) return "";
  return `<${name}>${typeof text === "string" ? escapeXml(text) : text}</${name}>`;
}

/** `<name>inner</name>` around XML that is ready. */
export function nest(name: string, ...inner: string[]): string {
  return `<${name}>${inner.join("")}</${name}>`;
}

/** A whole document of S3's namespace around XML that is ready. */
export function document(root: string, ...inner: string[]): string {
  return `${declaration}<${root} xmlns="${s3Namespace}">${inner.join("")}</${root}>`;
}

/** As the XML of S3 writes times: `2026-11-21T03:20:00.000Z`. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

/**
 * Patterns of bucket policies: `*` is any run of characters, `?` is one, and `${name}` stands for what the
 * request says under that condition key (`${*}`, `${?}` and `${$}` are those characters themselves).
 * Source: IAM user guide, "IAM policy elements: Variables and tags".
 */
const ANY = -1;
const ONE = -2;

/** Code units, ANY, ONE, or the name of a variable. */
type Token = number | string;

export interface Pattern {
  readonly source: string;
  readonly tokens: readonly Token[];
  /** Without wildcards and variables a comparison of strings will do. */
  readonly literal: boolean;
  readonly variables: boolean;
}

/** What a variable stands for, or undefined where the request has no such key. */
export type Resolve = (variable: string) => string | undefined;

/** With `wildcards` false `*` and `?` are characters as others. */
export function parsePattern(source: string, wildcards = true): Pattern {
  const tokens: Token[] = [];
  let literal = true;
  let variables = false;
  for (let at = 0; at < source.length; at++) {
    const character = source[at]!;
    if (wildcards && (character === "*" || character === "?")) {
      literal = false;
      if (character === "?") tokens.push(ONE);
      else if (tokens.at(-1) !== ANY) tokens.push(ANY);
      continue;
    }
    const end = character === "$" && source[at + 1] === "{" ? source.indexOf("}", at) : -1;
    if (end === -1) {
      tokens.push(source.charCodeAt(at));
      continue;
    }
    const name = source.slice(at + 2, end);
    literal = false;
    if (name === "*" || name === "?" || name === "$") tokens.push(name.charCodeAt(0));
    else {
      variables = true;
      tokens.push(name);
    }
    at = end;
  }
  return { source, tokens, literal, variables };
}

/** The pattern with its variables filled in, or undefined where one has no value. */
function resolved(pattern: Pattern, resolve: Resolve | undefined): readonly number[] | undefined {
  if (!pattern.variables) return pattern.tokens as readonly number[];
  const tokens: number[] = [];
  for (const token of pattern.tokens) {
    if (typeof token === "number") tokens.push(token);
    else {
      // A default may follow: ${aws:username, 'anonymous'}.
      const [, name, , fallback] = /^\s*([^,\s]+)\s*(,\s*'([^']*)'\s*)?$/.exec(token) ?? [];
      const value = name === undefined ? undefined : (resolve?.(name) ?? fallback);
      if (value === undefined) return undefined;
      for (let at = 0; at < value.length; at++) tokens.push(value.charCodeAt(at));
    }
  }
  return tokens;
}

/** Time is at most the product of both lengths, whatever the pattern: no backtracking but to the last `*`. */
export function matches(pattern: Pattern, text: string, resolve?: Resolve): boolean {
  if (pattern.literal) return pattern.source === text;
  const tokens = resolved(pattern, resolve);
  if (tokens === undefined) return false;
  let token = 0;
  let lastAny = -1;
  let resume = 0;
  let at = 0;
  while (at < text.length) {
    const wanted = tokens[token];
    if (wanted === ANY) {
      lastAny = token++;
      resume = at;
    } else if (wanted === ONE || wanted === text.charCodeAt(at)) {
      token++;
      at++;
    } else if (lastAny !== -1) {
      token = lastAny + 1;
      at = ++resume;
    } else return false;
  }
  while (tokens[token] === ANY) token++;
  return token === tokens.length;
}

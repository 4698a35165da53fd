// Questions to the server.

/** An answer of the server that is not what was asked for. status: of HTTP, 0 without an answer. */
export class Refused extends Error {
  constructor(status, detail, retryAfterS) {
    super(detail);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** fetch with the token; throws Refused with the server's own reason. */
export async function ask(path, token, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Refused(0, "the server does not answer");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const retryAfterS = Number(response.headers.get("Retry-After")) || undefined;
  throw new Refused(response.status, problem.detail ?? response.statusText, retryAfterS);
}

// The same request for a terminal and for Python.

/** `prompt` is {file, url}: what the clip is called, and where it can be had (null: from this page only). */
export function curl(base, prompt, parameters, needsKey) {
  const query = new URLSearchParams(parameters);
  const header = needsKey ? ` -H "Authorization: Bearer $AUDIOLM_KEY"` : "";
  const first = prompt.url ? `curl -O ${prompt.url}\n` : "";
  return `${first}curl -F file=@${prompt.file}${header} '${base}continue?${query}' -o continuation.wav`;
}

export function python(base, prompt, parameters, needsKey) {
  const listed = Object.entries(parameters).map(([name, value]) => `"${name}": ${value}`).join(", ");
  const header = needsKey ? `\n    headers={"Authorization": f"Bearer {os.environ['AUDIOLM_KEY']}"},` : "";
  const clip = prompt.url ? `httpx.get("${prompt.url}").content` : `Path("${prompt.file}").read_bytes()`;
  return `${needsKey ? "import os\n" : ""}from pathlib import Path

import httpx

clip = ${clip}
answer = httpx.post(
    "${base}continue",
    params={${listed}},
    files={"file": ("${prompt.file}", clip)},${header}
    timeout=300,
)
answer.raise_for_status()
Path("continuation.wav").write_bytes(answer.content)`;
}

// The same request for a terminal and for Python.

/** `route` is "continue" or "detect"; `clip` {file, url}: what it is called, and where it can be had or null. */
export function curl(base, route, clip, parameters, needsKey) {
  const query = new URLSearchParams(parameters);
  const header = needsKey ? ` -H "Authorization: Bearer $AUDIOLM_KEY"` : "";
  const first = clip.url ? `curl -O ${clip.url}\n` : "";
  const address = `'${base}${route}${query.size ? `?${query}` : ""}'`;
  const out = route === "continue" ? " -o continuation.wav" : "";
  return `${first}curl -F file=@${inShell(clip.file)}${header} ${address}${out}`;
}

export function python(base, route, clip, parameters, needsKey) {
  const listed = Object.entries(parameters).map(([name, value]) => `"${name}": ${value}`).join(", ");
  const params = listed ? `\n    params={${listed}},` : "";
  const header = needsKey ? `\n    headers={"Authorization": f"Bearer {os.environ['AUDIOLM_KEY']}"},` : "";
  const name = JSON.stringify(clip.file);
  const source = clip.url ? `httpx.get("${clip.url}").content` : `Path(${name}).read_bytes()`;
  const needsPath = !clip.url || route === "continue";
  const use = {
    continue: `Path("continuation.wav").write_bytes(answer.content)`,
    detect: `finding = answer.json()
print(finding["verdict"], finding["summary"])
for segment in finding["segments"]:
    print(segment["start"], segment["end"], segment["evidence"])`,
  };
  return `${needsKey ? "import os\n" : ""}${needsPath ? "from pathlib import Path\n\n" : ""}import httpx

clip = ${source}
answer = httpx.post(
    "${base}${route}",${params}
    files={"file": (${name}, clip)},${header}
    timeout=300,
)
answer.raise_for_status()
${use[route]}`;
}

/** A file name of the caller's own, so that a shell and curl take it as it is. */
function inShell(name) {
  return /^[\w.-]+$/.test(name) ? name : `'"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("'", `'\\''`)}"'`;
}

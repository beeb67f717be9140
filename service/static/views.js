// Which view is open. The address tells (#check), and frame.css shows it; here is what CSS cannot do.

const views = [...document.querySelectorAll(".view")];
const links = [...document.querySelectorAll("nav a[href^='#']")];
const title = document.title;

function opened() {
  return views.find((view) => `#${view.id}` === location.hash) ?? views[0];
}

export function open(name) {
  location.hash = name;
}

function show({ focus }) {
  const view = opened();
  const heading = view.querySelector("h1");
  for (const link of links) {
    if (link.hash === `#${view.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.querySelector(".skip").href = `#${view.id}`;
  document.title = view === views[0] ? title : `${view.dataset.title} - ${title}`;
  if (focus && !view.contains(document.activeElement)) heading.focus({ preventScroll: true });
}

addEventListener("hashchange", () => show({ focus: true }));
show({ focus: false });

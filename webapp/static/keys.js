// Keys for people who like them. What each does is in the pages: [data-key] on a link of the navigation is where "g" and
// that letter lead, [data-search] is where "/" goes, and #keys is the help. They can be switched off (WCAG 2.1.4).
(() => {
  const GOES_FOR_MS = 1500; // how long after "g" its letter counts
  const SEARCH = "#search"; // at the end of an address: to its search field
  const help = document.getElementById("keys");
  const find = (selector) => document.querySelector(selector);
  let went = -Infinity; // when "g" was pressed

  function areOn() {
    try {
      return localStorage.getItem("keys") !== "off";
    } catch {
      return true; // storage is switched off
    }
  }

  function search() {
    const field = find("main [data-search], main input[type=search]");
    if (!field) location.assign(`${find("[data-key=h]").href}${SEARCH}`);
    field?.focus();
    field?.select();
  }
  if (location.hash === SEARCH) search();

  function press(key) {
    const isSecond = performance.now() - went < GOES_FOR_MS;
    went = key === "g" ? performance.now() : -Infinity;
    if (help.open) {
      if (key === "?") help.close();
      return key === "?";
    }
    if (isSecond && key !== "g") {
      const link = find(`[data-key="${CSS.escape(key)}"]`);
      link?.click();
      return Boolean(link);
    }
    if (key === "/") search();
    if (key === "?") help.showModal();
    return key === "/" || key === "?";
  }

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
    const isCommand = event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat;
    if (isTyping || isCommand || event.defaultPrevented || !areOn()) return;
    if (press(event.key)) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-keys-help]")) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // into a window of its own: the page says the same
    event.preventDefault();
    help.showModal();
  });

  for (const box of document.querySelectorAll("[data-keys-switch]")) {
    box.checked = areOn();
    box.addEventListener("change", () => {
      try {
        localStorage.setItem("keys", box.checked ? "on" : "off");
      } catch {
        box.checked = true;
      }
    });
  }
})();

// What HTML and htmx cannot do alone. Each part finds its elements by a data attribute; every page works without it.
(() => {
  const on = (type, handle, options) => document.addEventListener(type, handle, options);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- Toasts: toast("Saved", "ok"), or from the server: HX-Trigger: {"toast": {"message": "Saved", "tone": "ok"}}
  const LASTS_MS = 6000;

  function toast(message, tone = "info") {
    const region = document.getElementById("toasts");
    const made = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
    all(".toast-note", region).filter((old) => old.dataset.message === message).forEach((old) => old.remove());
    made.classList.add(`tone-${tone}`);
    made.dataset.message = message;
    made.querySelector("[data-toast-text]").textContent = message;
    region.append(made);
    if (tone !== "bad") setTimeout(() => made.remove(), LASTS_MS);
    return made;
  }
  on("toast", (event) => toast(event.detail.message, event.detail.tone));
  on("click", (event) => event.target.closest("[data-dismiss]")?.closest(".note").remove());

  // --- Polling: [data-poll] regions rest while the page is hidden and catch up at once on return. They also rest while
  // somebody has ticked, chosen or written something in them, which the answer would take away.
  const touched = (one) => (one.options ? [...one.options].some((option) => option.selected !== option.defaultSelected)
    : one.matches("[type=checkbox], [type=radio]") ? one.checked !== one.defaultChecked : one.value !== one.defaultValue);
  const inUse = (region) => all("input:not([type=hidden]), textarea, select", region).some(
    (one) => touched(one) || (one === document.activeElement && one.matches(":not([type=checkbox])")));
  on("htmx:beforeRequest", (event) => {
    const region = event.detail.elt;
    if (region.matches("[data-poll]") && (document.hidden || inUse(region))) event.preventDefault();
  });
  on("htmx:beforeSwap", (event) => {
    const region = event.detail.requestConfig.elt;
    if (region.matches("[data-poll]") && inUse(region)) event.detail.shouldSwap = false;
  });
  on("visibilitychange", () => {
    if (!document.hidden) all("[data-poll]").forEach((region) => window.htmx.trigger(region, "refresh"));
  });

  // --- Errors that htmx does not swap: a toast, or for a region that is asked for again and again, how old it is.
  const AWAY = "The server cannot be reached.";
  let lastSeen = new Date(); // when what is shown was right: as the page came, or its region

  function explain(xhr) {
    const page = new DOMParser().parseFromString(xhr.responseText || "", "text/html");
    const said = page.querySelector("[data-error]")?.dataset.error;
    return said || `The server answered with an error (${xhr.status}). Please try again.`;
  }
  function showStale(why) {
    const note = document.getElementById("stale-template").content.firstElementChild.cloneNode(true);
    const since = lastSeen.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    note.querySelector("div").textContent = `Not updated since ${since}. ${why} This page catches up by itself.`;
    const region = document.getElementById("stale");
    if (region.textContent.trim() !== note.textContent.trim()) region.replaceChildren(note); // said once, not each time
  }
  function failed(source, why, advice = "") {
    if (!source.matches("[data-poll]")) return toast(`${why}${advice}`, "bad");
    source.classList.add("is-stale");
    showStale(why);
  }
  on("htmx:sendError", (event) => failed(event.detail.elt, AWAY, " Please try again."));
  on("htmx:responseError", (event) => failed(event.detail.elt, explain(event.detail.xhr)));
  const asker = (event) => event.detail.requestConfig.elt; // detail.elt is its parent when the answer took its place
  on("htmx:afterRequest", (event) => {
    if (!event.detail.successful || !asker(event).matches("[data-poll]")) return;
    lastSeen = new Date();
    asker(event).classList.remove("is-stale");
    document.getElementById("stale").replaceChildren();
  });

  // --- Loading: a region that somebody waits for says so; one that polls does not flicker, and a form has its button.
  const awaited = (event) => !asker(event).matches("[data-poll], form") && event.detail.target;
  on("htmx:beforeSend", (event) => awaited(event)?.setAttribute?.("aria-busy", "true"));
  on("htmx:afterRequest", (event) => awaited(event)?.removeAttribute?.("aria-busy"));

  // --- Forms: ask first, send once, lead to the first wrong field.
  function setBusy(form, busy) {
    busy ? form.setAttribute("aria-busy", "true") : form.removeAttribute("aria-busy");
    all("button:not([type=button]), input[type=submit]", form).forEach((button) => {
      if (busy && button.disabled) return; // was not ours to enable again
      button.disabled = busy;
      button.toggleAttribute("data-in-flight", busy);
    });
  }
  on("submit", (event) => {
    const question = event.submitter?.dataset.confirm || event.target.dataset.confirm;
    if (question && !window.confirm(question)) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    const form = event.target;
    if (form.method !== "post" || form.matches("[hx-post]")) return;
    setTimeout(() => setBusy(form, true)); // after the browser has read the pressed button
    setTimeout(() => setBusy(form, false), 10000); // the answer was a download
  }, true);
  on("htmx:beforeSend", (event) => event.detail.elt.matches("form") && setBusy(event.detail.elt, true));
  on("htmx:afterRequest", (event) => event.detail.elt.matches("form") && setBusy(event.detail.elt, false));
  window.addEventListener("pageshow", () => all("form[aria-busy]").forEach((form) => setBusy(form, false)));

  const focusFirstError = (root) => root.querySelector("[aria-invalid=true]")?.focus();
  on("DOMContentLoaded", () => focusFirstError(document));
  on("htmx:afterSettle", (event) => event.detail.xhr?.status === 422 && focusFirstError(event.target));

  // --- Upload progress of an htmx form with <progress data-upload-progress>.
  on("htmx:xhr:progress", (event) => {
    const bar = (event.target.closest?.("form") ?? event.target).querySelector?.("[data-upload-progress]");
    if (!bar || !event.detail.lengthComputable) return;
    const share = event.detail.loaded / event.detail.total;
    const words = share < 1 ? `Uploading, ${Math.round(share * 100)} %` : "Uploaded. Reading the file …";
    bar.hidden = false;
    bar.querySelector("progress").value = share;
    bar.querySelector("[data-upload-text]").textContent = words;
  });
  on("htmx:afterRequest", (event) => all("[data-upload-progress]", event.detail.elt.closest("form") ?? event.detail.elt).forEach((bar) => (bar.hidden = true)));

  // --- Drop zone: files fall into the input, and each becomes a row that says what is wrong with it.
  const zoneOf = (event) => event.target.closest?.("[data-dropzone]");
  const withFiles = (event) => event.dataTransfer?.types.includes("Files");

  function size(bytes) {
    if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} KB`;
    return `${(bytes / 1e6).toFixed(1)} MB`;
  }
  function complaint(file, input) {
    const most = Number(input.dataset.maxBytes || 0);
    const wanted = input.accept.split(",").map((part) => part.trim()).filter(Boolean);
    const fits = (kind) => (kind.startsWith(".") ? file.name.toLowerCase().endsWith(kind) : file.type === kind || (kind.endsWith("/*") && file.type.startsWith(kind.slice(0, -1))));
    if (file.size === 0) return "This file is empty";
    if (most && file.size > most) return `Larger than ${size(most)}`;
    return wanted.length && !wanted.some(fits) ? "Not a file type that can be used here" : "";
  }
  function setFiles(input, files) {
    const bag = new DataTransfer();
    files.forEach((file) => bag.items.add(file));
    input.files = bag.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  function showFiles(zone) {
    const input = zone.querySelector("input[type=file]");
    const rows = [...input.files].map((file, index) => {
      const row = zone.querySelector("template").content.firstElementChild.cloneNode(true);
      const wrong = complaint(file, input);
      row.querySelector("[data-file-name]").textContent = file.name;
      row.querySelector("[data-file-note]").textContent = wrong || size(file.size);
      row.classList.toggle("is-bad", Boolean(wrong));
      const remove = row.querySelector("button");
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      remove.addEventListener("click", () => {
        setFiles(input, [...input.files].filter((_, other) => other !== index));
        input.focus();
      });
      return row;
    });
    zone.querySelector("[data-file-list]").replaceChildren(...rows);
    input.setCustomValidity(rows.some((row) => row.matches(".is-bad")) ? "Remove the files that cannot be used." : "");
  }
  // Files that an estimate has stored are listed there from now on, and not sent a second time. What was changed after
  // its request was read, within htmx's delay, is in neither: it stays, and is asked for again.
  // (The files of a run form are upload.js's own, and a file of rows is not stored.)
  const zonesOf = (form) => (form.matches("[data-upload]") ? [] : all("[data-dropzone]:has(input[multiple])", form));
  const known = (file) => `${file.name} ${file.size} ${file.lastModified}`;
  const sent = new WeakMap(); // form: the files of the request that is under way
  const changed = new WeakSet(); // forms that were changed since then
  on("htmx:beforeRequest", (event) => {
    if (event.detail.elt.id !== "estimate") return;
    const form = event.detail.elt.closest("form");
    sent.set(form, new Set(zonesOf(form).flatMap((zone) => [...zone.querySelector("input").files].map(known))));
    changed.delete(form);
  });
  on("change", (event) => changed.add(event.target.form ?? event.target)); // upload.js tells the form itself
  on("htmx:afterSettle", (event) => {
    if (event.target.id !== "estimate") return;
    const form = event.target.closest("form");
    zonesOf(form).forEach((zone) => {
      const input = zone.querySelector("input[type=file]");
      const bag = new DataTransfer();
      [...input.files].filter((file) => !sent.get(form)?.has(known(file))).forEach((file) => bag.items.add(file));
      input.files = bag.files;
      showFiles(zone);
    });
    if (changed.has(form)) form.dispatchEvent(new Event("change", { bubbles: true }));
  });
  on("change", (event) => event.target.matches("[data-dropzone] input[type=file]") && showFiles(zoneOf(event)));
  on("dragover", (event) => {
    if (!withFiles(event) || !document.querySelector("[data-dropzone]")) return;
    event.preventDefault(); // also beside the zone: a near miss must not leave the page
    all("[data-dropzone]").forEach((zone) => zone.classList.toggle("is-over", zone === zoneOf(event)));
    if (!zoneOf(event)) event.dataTransfer.dropEffect = "none";
  });
  on("dragleave", (event) => zoneOf(event)?.classList.toggle("is-over", zoneOf(event).contains(event.relatedTarget)));
  on("drop", (event) => {
    const zone = zoneOf(event);
    if (!withFiles(event) || !zone) return;
    event.preventDefault();
    zone.classList.remove("is-over");
    const input = zone.querySelector("input[type=file]");
    const dropped = [...event.dataTransfer.files];
    setFiles(input, input.multiple ? [...input.files, ...dropped] : dropped.slice(0, 1));
  });

  window.sluice = { toast, explain, complaint, size, showFiles }; // for the pages' own scripts

  // --- Copy: <button data-copy="text">, data-copy-from="#id of an element", or data-copy-url="address of a text"
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or not a secure page
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "off-screen";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }
  async function fetched(address) {
    const answer = await fetch(address);
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    return answer.text();
  }
  on("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-from], [data-copy-url]");
    if (!button) return;
    const { copy: text, copyFrom, copyUrl } = button.dataset;
    try {
      await copy(text ?? (copyUrl ? await fetched(copyUrl) : document.querySelector(copyFrom).textContent));
      toast("Copied", "ok");
    } catch {
      toast("This could not be read. Reload the page and try again.", "bad");
    }
    button.focus();
  });

  // --- Tick all: <input type=checkbox data-tick-all="name"> ticks all of that name in its form.
  on("change", (event) => {
    const form = event.target.form;
    const head = form?.querySelector("[data-tick-all]");
    if (!head) return;
    const boxes = all(`input[type=checkbox][name="${head.dataset.tickAll}"]`, form);
    if (event.target === head) boxes.forEach((box) => (box.checked = head.checked));
    const ticked = boxes.filter((box) => box.checked).length;
    head.checked = ticked === boxes.length;
    head.indeterminate = ticked > 0 && ticked < boxes.length;
  });
})();

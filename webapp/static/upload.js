// The files of a run form (<form data-upload="address">): they are sent as soon as they are chosen, in small portions
// (reading a few together is much quicker than one by one), and each becomes a row that says how far it is and what is
// wrong with it. Without this script the form sends them itself.
(() => {
  const { toast, explain, complaint, size, showFiles } = window.sluice;
  const NOT_RUN = "Not run: some files could not be used. Remove them, or try them again.";
  const AT_ONCE = 3; // requests
  const PORTION = { files: 10, bytes: 4e6 }; // of one request; a larger file goes alone
  const on = (type, handle, options) => document.addEventListener(type, handle, options);
  const all = (selector, root) => [...root.querySelectorAll(selector)];
  // form: { waiting: [entry], sending: {portion: its request}, run: the button pressed meanwhile,
  //         known: {file: its document or ""}, gone: {documents that were taken out} }
  const queues = new WeakMap();
  const entries = new WeakMap(); // row: { file, input, row }
  const uploadForm = (element) => element.closest?.("form[data-upload]");
  const key = (file) => `${file.name} ${file.size} ${file.lastModified}`;

  function queueOf(form) {
    if (!queues.has(form)) queues.set(form, { waiting: [], sending: new Map(), run: null, known: new Map(), gone: new Set() });
    return queues.get(form);
  }
  const listOf = (input) => input.closest("[data-dropzone]").querySelector("[data-file-list]");
  const isThere = (entry) => entry.row.isConnected;
  const left = ({ sending, waiting }) => [...sending.keys()].flat().filter(isThere).length + waiting.length;
  const isBusy = (form) => left(queueOf(form)) > 0;

  // --- Choosing: the input is emptied at once, so that no file is in two places, nor sent twice.
  on("change", (event) => {
    const input = event.target;
    const form = uploadForm(input);
    if (!form || !input.matches("input[type=file][multiple]")) return;
    event.stopImmediatePropagation(); // the estimate is asked for when they have come
    const files = [...input.files];
    input.value = "";
    add(form, input, files);
  }, true);

  function add(form, input, files) {
    const queue = queueOf(form);
    const room = Number(form.dataset.mostFiles) - all(`[name="${input.name}-kept"]`, form).length - left(queue);
    const fresh = files.filter((file) => !queue.known.has(key(file)));
    if (fresh.length < files.length) toast("What is in the list already was not added again.");
    if (fresh.length > room) toast(`At most ${form.dataset.mostFiles} files at once: ${fresh.length - Math.max(room, 0)} were left out.`, "bad");
    fresh.slice(0, Math.max(room, 0)).forEach((file) => {
      queue.known.set(key(file), "");
      const row = input.closest("[data-dropzone]").querySelector("template").content.firstElementChild.cloneNode(true);
      listOf(input).append(row);
      const entry = { file, input, row };
      const wrong = complaint(file, input);
      if (wrong) refuse(entry, wrong, false);
      else enqueue(form, entry);
    });
    next(form);
  }

  function show(entry, note, share) {
    entry.row.querySelector("[data-file-name]").textContent = entry.file.name;
    entry.row.querySelector("[data-file-note]").textContent = note;
    const button = entry.row.querySelector("button:not([data-retry])");
    button.dataset.remove = "";
    button.setAttribute("aria-label", `Remove ${entry.file.name}`);
    let bar = entry.row.querySelector("progress");
    if (share === undefined) return bar?.remove();
    if (!bar) {
      bar = document.createElement("progress");
      bar.className = "bar file-bar";
      bar.max = 1;
      bar.setAttribute("aria-label", `Upload of ${entry.file.name}`);
      entry.row.querySelector("[data-file-note]").before(bar);
    }
    bar.value = share;
  }

  function enqueue(form, entry) {
    entries.set(entry.row, entry);
    show(entry, `${size(entry.file.size)}, waits`);
    queueOf(form).waiting.push(entry);
  }

  // --- Sending.
  function next(form) {
    const queue = queueOf(form);
    while (queue.sending.size < AT_ONCE && queue.waiting.length) send(form, portion(queue));
    say(form);
    if (!isBusy(form)) settled(form);
  }

  function portion(queue) {
    const { input } = queue.waiting[0];
    const most = Math.min(PORTION.files, Math.ceil(queue.waiting.length / (AT_ONCE - queue.sending.size)));
    const mostBytes = Math.min(PORTION.bytes, Number(input.dataset.maxBytes)); // the server takes no more at once
    const fits = (entry, bytes) => entry.input === input && bytes + entry.file.size <= mostBytes;
    let count = 1;
    let bytes = queue.waiting[0].file.size;
    while (count < most && fits(queue.waiting[count], bytes)) bytes += queue.waiting[count++].file.size;
    return queue.waiting.splice(0, count);
  }

  function send(form, batch) {
    const queue = queueOf(form);
    const { input } = batch[0];
    const body = new FormData();
    for (const name of ["csrf_token", "profile", `${input.name}-as-file`]) {
      const field = form.elements[name];
      if (field && (field.type !== "checkbox" || field.checked)) body.append(name, field.value);
    }
    body.append("field", input.name);
    batch.forEach((entry) => body.append("file", entry.file));
    const xhr = new XMLHttpRequest();
    queue.sending.set(batch, xhr);
    xhr.open("POST", form.dataset.upload);
    xhr.setRequestHeader("HX-Request", "true");
    const progress = (share) => batch.forEach((entry) => show(entry, share < 1 ? `${Math.round(100 * share)} %` : "Reading …", share));
    xhr.upload.addEventListener("progress", ({ loaded, total }) => progress(loaded / total));
    xhr.addEventListener("loadend", () => {
      queue.sending.delete(batch);
      answered(batch, xhr);
      next(form);
    });
    progress(0);
    xhr.send(body);
  }

  function answered(batch, xhr) {
    if (xhr.status === 401) return window.location.assign(xhr.getResponseHeader("HX-Redirect") || window.location.href);
    const rows = all("li.file-row", new DOMParser().parseFromString(xhr.responseText || "", "text/html"));
    const why = xhr.status ? explain(xhr) : "The server cannot be reached.";
    batch.forEach((entry, place) => {
      const row = rows.length === batch.length ? rows[place] : null;
      if (!isThere(entry)) return; // it was removed meanwhile
      if (row && !row.matches(".is-bad")) {
        entry.row.replaceWith(row);
        entries.set(row, { ...entry, row });
        queueOf(uploadForm(row)).known.set(key(entry.file), row.querySelector("input").value);
      } else refuse(entry, row ? row.querySelector(".file-note").textContent : why, true);
    });
  }

  function refuse(entry, why, canRetry) {
    entries.set(entry.row, entry);
    show(entry, why);
    entry.row.classList.add("is-bad");
    const retry = document.createElement("button");
    retry.type = "button";
    retry.className = "btn btn-sm";
    retry.dataset.retry = "";
    retry.textContent = "Try again";
    retry.setAttribute("aria-label", `Try ${entry.file.name} again`);
    if (canRetry) entry.row.querySelector("[data-remove]").before(retry);
  }

  // --- What a row's buttons do.
  on("click", (event) => {
    const button = event.target.closest("[data-remove], [data-retry]");
    const row = button?.closest(".file-row");
    const entry = row && entries.get(row);
    if (!entry) return;
    const form = uploadForm(row);
    if (button.matches("[data-retry]")) {
      button.remove();
      row.classList.remove("is-bad");
      enqueue(form, entry);
      return next(form);
    }
    const queue = queueOf(form);
    queue.known.delete(key(entry.file));
    queue.waiting = queue.waiting.filter((other) => other !== entry);
    const stored = row.querySelector("input[name$='-kept']");
    if (stored) queue.gone.add(stored.value); // an estimate that is under way still names it
    row.remove();
    entry.input.focus();
    for (const [batch, xhr] of queue.sending) if (!batch.some(isThere)) xhr.abort(); // nobody waits for these
    next(form);
  });

  // --- When all have come: the estimate lists them from now on, and a Run that was pressed meanwhile goes on.
  function settled(form) {
    const { run } = queueOf(form);
    const bad = all(".file-row.is-bad", form).length;
    all("input[type=file][multiple]", form).forEach((input) => {
      input.setCustomValidity(listOf(input).querySelector(".is-bad") ? "Remove the files that cannot be used, or try them again." : "");
    });
    queueOf(form).run = null;
    if (run && bad) toast(NOT_RUN, "bad");
    if (run && !bad) form.requestSubmit(run);
    else form.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function say(form) {
    const region = form.querySelector("[data-upload-state]");
    const queue = queueOf(form);
    const count = left(queue);
    const words = count === 1 ? "1 file is still being sent" : `${count} files are still being sent`;
    region.textContent = count ? `${words}${queue.run ? "; it runs when they have come" : ""}.` : "";
  }

  on("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-upload]") || !isBusy(form)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    queueOf(form).run = event.submitter;
    say(form);
  }, true);

  on("htmx:afterSettle", (event) => {
    const form = event.target.id === "estimate" && uploadForm(event.target);
    if (!form) return;
    const { known, gone } = queueOf(form);
    const boxes = all("#estimate input[type=checkbox][name$='-kept']", form);
    const kept = new Set(boxes.map((box) => box.value));
    const rows = all(".file-row input[name$='-kept']", form);
    rows.filter((one) => kept.has(one.value)).forEach((one) => one.closest(".file-row").remove());
    rows.forEach((one) => kept.add(one.value)); // they came after this estimate was asked for
    for (const [file, id] of known) if (id && !kept.has(id)) known.delete(file); // it was taken out: it may come again
    const back = boxes.filter((box) => gone.has(box.value)); // they were taken out after it was asked for
    back.forEach((box) => (box.checked = false));
    if (back.length) form.dispatchEvent(new Event("change", { bubbles: true }));
  });
  on("change", (event) => {
    const form = event.target.matches("#estimate input[name$='-kept']") && uploadForm(event.target);
    if (form) queueOf(form).gone[event.target.checked ? "delete" : "add"](event.target.value);
  });
  on("htmx:beforeRequest", (event) => {
    const form = event.detail.elt.id === "estimate" && uploadForm(event.detail.elt);
    if (form && isBusy(form)) event.preventDefault(); // it is asked for when they have come
  });
  window.addEventListener("beforeunload", (event) => all("form[data-upload]", document).some(isBusy) && event.preventDefault());

  // Run, pressed after a file was refused: said as above, not in a bubble that fades.
  on("invalid", (event) => {
    if (!uploadForm(event.target) || !event.target.validity.customError) return;
    event.preventDefault();
    toast(NOT_RUN, "bad");
  }, true);

  // --- A file of rows that was mended has the same name: it can be chosen again.
  on("click", (event) => {
    if (!event.target.matches("#run-form input[type=file]:not([multiple])")) return;
    event.target.value = "";
    showFiles(event.target.closest("[data-dropzone]"));
  });
})();

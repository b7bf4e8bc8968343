// What a page does beyond plain HTML. Nothing depends on it: without script, everything still works.
"use strict";

// The summary of mistakes is read out first.
document.querySelector(".summary[tabindex]")?.focus();

// Times in the reader's own zone; UTC stays at hand.
const zoned = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = time.textContent;
  time.textContent = zoned.format(new Date(time.dateTime));
}

// One click copies what can be copied.
if (navigator.clipboard) {
  for (const code of document.querySelectorAll("details pre > code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Copy";
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected: press Ctrl+C";
      }
    });
    code.parentElement.before(button);
  }
}

// How much room a text has left: at once for the eye, after a pause for the ear. Counted as the server does.
for (const area of document.querySelectorAll("textarea[data-limit]")) {
  const seen = document.createElement("p"), heard = document.createElement("p");
  let pause;
  seen.setAttribute("aria-hidden", "true");
  heard.className = "hidden";
  heard.setAttribute("aria-live", "polite");
  area.after(seen, heard);
  const count = () => {
    const left = area.dataset.limit - [...area.value].length, many = Math.abs(left);
    seen.textContent = `You have ${many} character${many === 1 ? "" : "s"} ${left < 0 ? "too many" : "left"}`;
    seen.className = left < 0 ? "count over" : "count";
  };
  area.addEventListener("input", () => {
    count();
    clearTimeout(pause);
    pause = setTimeout(() => (heard.textContent = seen.textContent), 1000);
  });
  addEventListener("pageshow", count);
}

// A second click on a button that already sends asks nothing twice.
for (const form of document.querySelectorAll("form[method=post]")) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  addEventListener("pageshow", () => (sent = false));
}

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

// A second click on a button that already sends asks nothing twice.
for (const form of document.querySelectorAll("form[method=post]")) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  addEventListener("pageshow", () => (sent = false));
}

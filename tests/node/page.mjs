// A page in a real browser: opens an HTML report in headless Chromium, narrow and wide, on light and dark paper, with
// scripts and without, and says what is wrong with it; or takes a picture of it. Results: one JSON object on stdout.
// Any failure of the browser: exit code 1 and a message.
import fs from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const USAGE = `usage: node page.mjs check PAGE.html [WIDTH light|dark]
       node page.mjs shot PAGE.html OUT.png WIDTH light|dark [SELECTOR [HOVER]]

check: {"figures": count, "tables": count, "tooltips": count, "findings": ["what, where", ...]}; without WIDTH in all of
  1280 and 390 pixels, light and dark, with scripts and without.
shot: the whole page, or what SELECTOR finds first, with the pointer on what HOVER finds first.
ADZE_CHROMIUM: the browser, else /usr/bin/chromium.`;

const WIDTHS = [1280, 390];
const LEAST_CONTRAST = 4.5; // WCAG 2.2 AA for text
const READ_ELEMENTS = "h1,h2,h3,p,li,dt,dd,th,td,a,summary,pre,.excerpt,svg text";

/** In the page: everything that can be judged by looking at what was laid out. */
function layoutFindings(leastContrast, readElements) {
  const findings = [];
  const root = document.scrollingElement;
  if (root.scrollWidth > window.innerWidth) {
    const wide = [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1 && !e.closest(".scroll"))
      .map((e) => e.tagName + "." + e.getAttribute("class"));
    findings.push(`the page is ${root.scrollWidth} wide: ${wide.slice(0, 5)}`);
  }
  const visible = (box) => box.width > 0 && box.height > 0;
  const inside = (a, b, slack) =>
    a.left >= b.left - slack && a.right <= b.right + slack && a.top >= b.top - slack && a.bottom <= b.bottom + slack;
  // Turned texts have boxes that are larger than they are.
  const overlap = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg");
    const name = figure.querySelector("h3")?.textContent ?? figure.id;
    if (!svg || !visible(svg.getBoundingClientRect())) {
      findings.push(`${name}: no picture`);
      continue;
    }
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((e) => ({
      words: e.textContent,
      box: e.getBoundingClientRect(),
      turned: e.hasAttribute("transform"),
    }));
    for (const text of texts)
      if (!inside(text.box, frame, 2)) findings.push(`${name}: '${text.words}' leaves the picture`);
    const level = texts.filter((text) => !text.turned);
    for (let i = 0; i < level.length; ++i)
      for (let j = i + 1; j < level.length; ++j)
        if (overlap(level[i].box, level[j].box))
          findings.push(`${name}: '${level[i].words}' and '${level[j].words}' overlap`);
  }

  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", {
    willReadFrequently: true,
  });
  const colour = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const back = colour(getComputedStyle(e).backgroundColor);
      if (back[3] === 255) return back;
    }
    return [255, 255, 255];
  };
  const told = new Set();
  for (const element of document.querySelectorAll(readElements)) {
    if (!element.textContent.trim() || !visible(element.getBoundingClientRect())) continue;
    const isSvg = element.closest("svg") !== null;
    let back = behind(element);
    // A number in a cell stands on the cell: the rectangle drawn just before it.
    const cell = element.classList.contains("on") ? element.previousElementSibling : null;
    if (cell) back = colour(getComputedStyle(cell).fill);
    const front = colour(isSvg ? getComputedStyle(element).fill : getComputedStyle(element).color);
    const [high, low] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const where = element.tagName + "." + (element.getAttribute("class") ?? "");
    if (ratio < leastContrast && !told.has(where)) {
      told.add(where);
      findings.push(`${where} '${element.textContent.slice(0, 30)}': contrast ${ratio.toFixed(2)}`);
    }
  }
  return findings;
}

/** In the page: the data behind each figure, as a table and as the file that its link gives. */
function dataFindings() {
  const findings = [];
  for (const figure of document.querySelectorAll("figure")) {
    const name = figure.querySelector("h3")?.textContent ?? figure.id;
    const rows = figure.querySelectorAll("tbody tr").length;
    const link = figure.querySelector("a[download$='.csv']");
    if (!link || !figure.querySelector("thead th")) {
      findings.push(`${name}: no data`);
      continue;
    }
    const csv = decodeURIComponent(link.href.slice(link.href.indexOf(",") + 1));
    const lines = csv.trimEnd().split("\r\n").length - 1;
    if (lines < rows) findings.push(`${name}: ${rows} rows shown, ${lines} in the file`);
  }
  return findings;
}

/** Points at a mark of each figure that has one; gives how many tooltips came, and what went wrong. */
async function pointAtMarks(page) {
  const findings = [];
  let tooltips = 0;
  for (const figure of await page.locator("figure").all()) {
    // The last one drawn that is no mere stroke: nothing lies on it.
    const last = (e) =>
      [...e.querySelectorAll("svg > :not(line)")].filter((m) => m.querySelector(":scope > title")).at(-1);
    const mark = (await figure.evaluateHandle(last)).asElement();
    if (!mark) continue;
    const expected = await mark.evaluate((e) => e.querySelector(":scope > title").textContent);
    await mark.scrollIntoViewIfNeeded();
    await mark.hover({ timeout: 5000 });
    const tip = page.locator(".tip");
    if ((await tip.count()) === 0) return { tooltips, findings: ["there are no tooltips"] };
    const shown = (await tip.isVisible()) ? await tip.textContent() : "";
    if (shown === expected) ++tooltips;
    else findings.push(`the tooltip says '${shown}' where '${expected}' is pointed at`);
    const box = await tip.boundingBox();
    const { width } = page.viewportSize();
    if (box && (box.x < 0 || box.x + box.width > width)) findings.push(`the tooltip '${expected}' leaves the window`);
    await page.mouse.move(0, 0);
    if (await tip.isVisible()) findings.push(`the tooltip '${expected}' stays`);
    if ((await mark.evaluate((e) => e.querySelector(":scope > title")?.textContent)) !== expected)
      findings.push(`the title '${expected}' is gone`);
  }
  return { tooltips, findings };
}

async function openPage(browser, file, { width, scheme, scripts }, findings) {
  const context = await browser.newContext({
    viewport: { width, height: 900 },
    colorScheme: scheme,
    javaScriptEnabled: scripts,
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) findings.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => findings.push(`error: ${error.message}`));
  page.on("requestfailed", (request) => findings.push(`failed: ${request.url().slice(0, 80)}`));
  const address = pathToFileURL(file).href;
  page.on("request", (request) => {
    if (request.url() !== address && !request.url().startsWith("data:")) findings.push(`asked for ${request.url()}`);
  });
  await page.goto(address, { waitUntil: "load" });
  return page;
}

/** One look at the page; adds to `result`. Gives the colour of its paper. */
async function lookOnce(browser, file, way, result) {
  const findings = [];
  const page = await openPage(browser, file, way, findings);
  result.figures = await page.locator("figure").count();
  result.tables = await page.locator("table").count();
  const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  if (way.scripts) {
    const pointed = await pointAtMarks(page);
    result.tooltips = pointed.tooltips;
    findings.push(...pointed.findings);
  }
  findings.push(...(await page.evaluate(dataFindings)));
  const layout = () => page.evaluate(`(${layoutFindings})(${LEAST_CONTRAST}, ${JSON.stringify(READ_ELEMENTS)})`);
  findings.push(...(await layout()));
  await page.evaluate(() => document.querySelectorAll("details").forEach((e) => (e.open = true)));
  findings.push(...(await layout()).map((finding) => `data shown: ${finding}`));
  const name = `${way.width} ${way.scheme}${way.scripts ? "" : " without scripts"}`;
  result.findings.push(...findings.map((finding) => `${name}: ${finding}`));
  await page.context().close();
  return paper;
}

async function check(browser, [file, width, scheme]) {
  const result = { figures: 0, tables: 0, tooltips: 0, findings: [] };
  if (width) {
    await lookOnce(browser, file, { width: Number(width), scheme, scripts: true }, result);
    return result;
  }
  const papers = new Set();
  for (const each of WIDTHS)
    for (const paper of ["light", "dark"])
      for (const scripts of [true, false])
        papers.add(await lookOnce(browser, file, { width: each, scheme: paper, scripts }, result));
  if (papers.size !== 2) result.findings.push(`papers of two schemes: ${[...papers]}`);
  return result;
}

async function shot(browser, [file, out, width, scheme, selector, hover]) {
  const findings = [];
  const page = await openPage(browser, file, { width: Number(width), scheme, scripts: true }, findings);
  if (hover) await page.locator(hover).first().hover();
  const box = selector ? await page.locator(selector).first().boundingBox() : null;
  const room = 16; // around what was asked for
  const clip = box && {
    x: Math.max(0, box.x - room),
    y: Math.max(0, box.y + (await page.evaluate(() => window.scrollY)) - room),
    width: Math.min(Number(width), box.width + 2 * room),
    height: box.height + 2 * room,
  };
  await page.screenshot({ path: out, fullPage: true, ...(clip && { clip }) });
  return { bytes: fs.statSync(out).size, findings };
}

const [command, ...rest] = process.argv.slice(2);
const commands = { check: { run: check, least: 1 }, shot: { run: shot, least: 4 } };
if (!commands[command] || rest.length < commands[command].least) {
  console.error(USAGE);
  process.exit(1);
}
const browser = await chromium.launch({
  executablePath: process.env.ADZE_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  console.log(JSON.stringify(await commands[command].run(browser, rest)));
} finally {
  await browser.close();
}

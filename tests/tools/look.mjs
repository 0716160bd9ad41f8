// Opens pages in Chromium, light, dark, narrow and on paper; asks axe-core; prints what it found as JSON, by page.
//   usage: node look.mjs FOLDER CHROMIUM PAGE.html...      (with axe-core and puppeteer-core in NODE_PATH)
import { createRequire } from "node:module";
import { parse } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, browser_path, ...paths] = process.argv.slice(2);
const require = createRequire(`${process.env.NODE_PATH}/`);
const puppeteer = require("puppeteer-core");
const axe = require("axe-core");

const browser = await puppeteer.launch({
  executablePath: browser_path, headless: true, args: ["--no-sandbox", "--disable-gpu"], timeout: 120000,
});
const views = { light: [1000, "light"], dark: [1000, "dark"], narrow: [360, "light"], narrow_dark: [360, "dark"] };

async function look(path, name, width, scheme) {
  const page = await browser.newPage();
  const loaded = [];
  page.on("request", (request) => loaded.push(request.url()));
  await page.setViewport({ width, height: 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(pathToFileURL(path));
  const picture = `${folder}/${parse(path).name}.${name}`;
  await page.screenshot({ path: `${picture}.png`, fullPage: true });
  const scrolls = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await page.evaluate(axe.source);
  const result = await page.evaluate(async () => (await window.axe.run()).violations);
  const violations = result.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(" | ")}`);
  if (name === "light") await page.pdf({ path: `${folder}/${parse(path).name}.pdf`, format: "A4" });
  await page.close();
  return { scrolls, violations, loaded: loaded.filter((url) => !/^(file|data):/.test(url)) };
}

const found = {};
for (const path of paths) {
  const of_page = (found[parse(path).name] = {});
  for (const [name, [width, scheme]] of Object.entries(views)) of_page[name] = await look(path, name, width, scheme);
}
await browser.close();
console.log(JSON.stringify(found));

// Opens a page in Chromium, light, dark, narrow and on paper; asks axe-core; prints what it found as JSON.
//   usage: node look.mjs PAGE.html FOLDER CHROMIUM      (with axe-core and puppeteer-core in NODE_PATH)
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [page_path, folder, browser_path] = process.argv.slice(2);
const require = createRequire(`${process.env.NODE_PATH}/`);
const puppeteer = require("puppeteer-core");
const axe = require("axe-core");

const browser = await puppeteer.launch({
  executablePath: browser_path, headless: true, args: ["--no-sandbox", "--disable-gpu"], timeout: 120000,
});
const found = {};
const views = { light: [1000, "light"], dark: [1000, "dark"], narrow: [360, "light"], narrow_dark: [360, "dark"] };
for (const [name, [width, scheme]] of Object.entries(views)) {
  const page = await browser.newPage();
  const loaded = [];
  page.on("request", (request) => loaded.push(request.url()));
  await page.setViewport({ width, height: 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(pathToFileURL(page_path));
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  const scrolls = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await page.evaluate(axe.source);
  const result = await page.evaluate(async () => (await window.axe.run()).violations);
  const violations = result.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(" | ")}`);
  found[name] = { scrolls, violations, loaded: loaded.filter((url) => !/^(file|data):/.test(url)) };
  if (name === "light") await page.pdf({ path: `${folder}/print.pdf`, format: "A4" });
  await page.close();
}
await browser.close();
console.log(JSON.stringify(found));

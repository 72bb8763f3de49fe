// Makes the official page of messages: official.mjs NODE_MODULES MESSAGES PAGE
import { createRequire } from 'node:module'
import { createReadStream, createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { pathToFileURL } from 'node:url'

const [modules, messages, page] = process.argv.slice(2)
const require = createRequire(pathToFileURL(modules + '/'))
const load = async (name) => import(pathToFileURL(require.resolve(name)))
const { CucumberHtmlStream } = await load('@cucumber/html-formatter')
const { parseEnvelope } = await load('@cucumber/messages')

async function* envelopes() {
  for await (const line of createInterface({ input: createReadStream(messages) })) {
    yield parseEnvelope(line)
  }
}
await pipeline(envelopes, new CucumberHtmlStream(), createWriteStream(page))

// The openai package: node openai.mjs BASE_URL PACKAGE. Prints one JSON object of what came back.
const [base, name] = process.argv.slice(2);
const { default: OpenAI } = await import(name);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hello, furnace" }];
const chat = { model: "tiny", messages, max_tokens: 20, seed: 3 };

const whole = await client.chat.completions.create(chat);
let streamed = "";
let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...chat,
  stream: true,
  stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

const ask = { model: "tiny", input: "Hello, furnace", max_output_tokens: 20 };
const response = await client.responses.create(ask);
const stream = client.responses.stream(ask);
const events = [];
for await (const event of stream) events.push(event.type);

// No encoding_format: the package asks for base64 and decodes it.
const embedded = await client.embeddings.create({ model: "minilm", input: ["iron", "ore"] });
const floats = await client.embeddings.create({ model: "minilm", input: "iron", encoding_format: "float" });

const refused = {};
const tries = {
  model: () => client.chat.completions.create({ ...chat, model: "other" }),
  value: () => client.chat.completions.create({ ...chat, temperature: -1 }),
  kind: () => client.embeddings.create({ model: "tiny", input: "x" }),
  route: () => client.get("/nothing"),
};
for (const [what, attempt] of Object.entries(tries)) {
  try {
    await attempt();
  } catch (error) {
    refused[what] = { status: error.status, code: error.code, param: error.param, type: error.type };
  }
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const text = await client.completions.create({ model: "tiny", prompt: "Once", max_tokens: 5, temperature: 0 });

console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    streamed,
    usage,
    wholeUsage: whole.usage,
    response: response.output_text,
    status: response.status,
    events,
    embedded: embedded.data.map((entry) => Array.from(entry.embedding)),
    floats: floats.data[0].embedding,
    refused,
    models,
    completion: text.choices[0].text,
  }),
);

// LangChain's OpenAI classes: node langchain.mjs BASE_URL.
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";

const [base] = process.argv.slice(2);
const configuration = { baseURL: `${base}/v1` };
const shared = { apiKey: "none", configuration, maxRetries: 0 };
const chat = new ChatOpenAI({ ...shared, model: "tiny", maxTokens: 20, temperature: 0 });

const whole = await chat.invoke("Hello, furnace");
let streamed = "";
for await (const chunk of await chat.stream("Hello, furnace")) streamed += chunk.content;

const responses = new ChatOpenAI({ ...shared, model: "tiny", maxTokens: 20, temperature: 0, useResponsesApi: true });
const response = await responses.invoke("Hello, furnace");
let responseStreamed = "";
for await (const chunk of await responses.stream("Hello, furnace")) responseStreamed += chunk.text;

const embeddings = new OpenAIEmbeddings({ ...shared, model: "minilm" });
const vectors = await embeddings.embedDocuments(["iron", "ore"]);

console.log(
  JSON.stringify({
    whole: whole.content,
    streamed,
    usage: whole.usage_metadata,
    response: response.text,
    responseStreamed,
    vectors,
  }),
);

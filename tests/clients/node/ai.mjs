// The AI SDK with its OpenAI-compatible provider: node ai.mjs BASE_URL AI_PACKAGE PROVIDER_PACKAGE.
const [base, sdk, providerName] = process.argv.slice(2);
const { embedMany, generateText, streamText } = await import(sdk);
const { createOpenAICompatible } = await import(providerName);
const provider = createOpenAICompatible({ name: "bloomery", baseURL: `${base}/v1`, apiKey: "none", includeUsage: true });
const model = provider("tiny");
const options = { model, prompt: "Hello, furnace", maxOutputTokens: 20, seed: 3, temperature: 1, maxRetries: 0 };

const whole = await generateText(options);
const stream = streamText(options);
let streamed = "";
for await (const part of stream.textStream) streamed += part;
const usage = await stream.usage;

const embedding = (provider.embeddingModel ?? provider.textEmbeddingModel).call(provider, "minilm");
const { embeddings } = await embedMany({ model: embedding, values: ["iron", "ore"], maxRetries: 0 });

let refused = null;
try {
  await generateText({ ...options, model: provider("other") });
} catch (error) {
  refused = { status: error.statusCode, message: error.message };
}

console.log(
  JSON.stringify({
    whole: whole.text,
    streamed,
    reason: whole.finishReason,
    usage: [whole.usage.inputTokens, whole.usage.outputTokens, usage.inputTokens, usage.outputTokens],
    embeddings,
    refused,
  }),
);

"""NVIDIA's Data Designer: one text column over a seed table, early shutdown off."""

from pathlib import Path

import data_designer.config as dd
import pandas
from data_designer.interface import DataDesigner
from job import KEY, TIMEOUT, read


def main() -> None:
    """Ask for all rows in one run."""
    job = read()
    texts = [{message["role"]: message["content"] for message in body["messages"]} for body in job.bodies]
    parameters = dd.ChatCompletionInferenceParams(
        max_parallel_requests=job.concurrency,
        timeout=TIMEOUT,
        temperature=job.settings["temperature"],
        max_tokens=job.settings["max_tokens"],
    )
    model = dd.ModelConfig(
        alias="teacher", model=job.model, provider="here", inference_parameters=parameters, skip_health_check=True
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.with_seed_dataset(dd.DataFrameSeedSource(df=pandas.DataFrame({"wanted": [text["user"] for text in texts]})))
    config.add_column(
        dd.LLMTextColumnConfig(
            name="reply", prompt="{{ wanted }}", system_prompt=texts[0]["system"], model_alias="teacher"
        )
    )
    designer = DataDesigner(
        artifact_path=Path.cwd(),
        model_providers=[dd.ModelProvider(name="here", endpoint=job.base_url, api_key=KEY)],
    )
    designer.set_run_config(dd.RunConfig(disable_early_shutdown=True, otel_metrics_port=None))
    found = designer.create(config, num_records=len(texts), dataset_name="peer")
    job.write(found.load_dataset()["reply"])


main()

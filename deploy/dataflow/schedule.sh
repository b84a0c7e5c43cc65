#!/bin/sh
# Makes Cloud Scheduler launch the Flex Template every night. How to use it: docs/dataflow.md
#
# The variables below are required. Arguments of the form NAME=VALUE are further parameters of the template:
#     sh deploy/dataflow/schedule.sh overlay=true gpu=nvidia-tesla-t4
set -eu
: "${PROJECT:?the project}" "${REGION:?where jobs run}" "${BUCKET:?gs://BUCKET of template and temporary files}"
: "${IMAGE:?the image of the workers}" "${INPUTS:?gs:// inputs, separated by ;}" "${OUTPUT:?gs:// output folder}"

# The name that `citymask run` gives to jobs that write to OUTPUT. Dataflow allows one
# active job of a name, so a night that is still running is not disturbed.
job=citymask-$(printf %s "${OUTPUT%/}" | sha256sum | cut -c 1-12)

further=
for parameter in "$@"; do
    further="$further, \"${parameter%%=*}\": \"${parameter#*=}\""
done

gcloud scheduler jobs create http citymask-nightly \
    --project="$PROJECT" \
    --location="$REGION" \
    --description="citymask: segment the new photos" \
    --schedule="${SCHEDULE:-30 1 * * *}" \
    --time-zone="${TIME_ZONE:-Etc/UTC}" \
    --uri="https://dataflow.googleapis.com/v1b3/projects/$PROJECT/locations/$REGION/flexTemplates:launch" \
    --http-method=post \
    --headers=Content-Type=application/json \
    --oauth-service-account-email="citymask-scheduler@$PROJECT.iam.gserviceaccount.com" \
    --oauth-token-scope=https://www.googleapis.com/auth/cloud-platform \
    --max-retry-attempts=3 \
    --min-backoff=60s \
    --message-body="{
  \"launchParameter\": {
    \"jobName\": \"$job\",
    \"containerSpecGcsPath\": \"$BUCKET/templates/citymask.json\",
    \"parameters\": {
      \"inputs\": \"$INPUTS\",
      \"output\": \"$OUTPUT\",
      \"sdk_container_image\": \"$IMAGE\"$further
    },
    \"environment\": {
      \"serviceAccountEmail\": \"citymask-worker@$PROJECT.iam.gserviceaccount.com\",
      \"tempLocation\": \"$BUCKET/temp\",
      \"stagingLocation\": \"$BUCKET/staging\",
      \"maxWorkers\": ${MAX_WORKERS:-10}
    }
  }
}"

import { type ErrorTable, errorsOf } from "@skep/base";

export const templateErrors = {
  TEMPLATE_NOT_FOUND: {
    message: 'there is no template "{template}"',
    hint: "see: skep template ls",
    status: 404,
  },
  TEMPLATE_REFUSED: {
    message: 'no template can be made of image "{image}": {why}',
    hint: "{hint}",
    status: 409,
  },
  TEMPLATE_FAILED: {
    message: 'the template of image "{image}" could not be made: {why}',
    hint: "see skepd's log: skep daemon logs; machines of it boot from their disks meanwhile",
    status: 500,
  },
  TEMPLATE_DAMAGED: {
    message: 'template "{template}" is damaged: {why}',
    hint: "remove it: skep template rm {template}; it is made anew when it is wanted",
    status: 500,
  },
} as const satisfies ErrorTable;

export const failTemplate = errorsOf(templateErrors);
